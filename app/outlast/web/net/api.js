// Calls of the HTTP API. Every failure is an ApiError with a sentence for people.

export const API = "/api/v1";
export const NDJSON = "application/x-ndjson";

/** A call that failed. `status` 0: the daemon was not reached. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} sentence */
  constructor(status, code, sentence) {
    super(sentence);
    this.status = status;
    this.code = code;
  }

  /** Whether the same call may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/**
 * @typedef {object} CallOptions
 * @property {string} [method]
 * @property {unknown} [body] Sent as JSON, or as it is if it is bytes.
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/**
 * Make a call, and return the response if it succeeded.
 *
 * @param {string} path Path below /api/v1, with its query.
 * @param {CallOptions} [options]
 * @returns {Promise<Response>}
 */
export async function call(path, options = {}) {
  /** @type {RequestInit} */
  const init = { method: options.method ?? "GET", headers: { ...options.headers }, credentials: "same-origin" };
  if (options.signal) init.signal = options.signal;
  if (options.body instanceof Uint8Array) {
    init.body = /** @type {BodyInit} */ (options.body);
  } else if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(API + path, init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "the daemon does not answer");
  }
  if (!response.ok) throw await toError(response);
  return response;
}

/** @param {Response} response */
async function toError(response) {
  try {
    const { error, code } = await response.json();
    return new ApiError(response.status, String(code), String(error));
  } catch {
    return new ApiError(response.status, "INTERNAL", `the daemon answered with status ${response.status}`);
  }
}

/** @param {string} path @param {CallOptions} [options] @returns {Promise<any>} */
export async function callJson(path, options) {
  const response = await call(path, options);
  return response.status === 204 ? null : response.json();
}

/** Query of a path; empty and false values are left out. @param {Record<string, unknown>} fields */
export function query(fields) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "" && one !== false) found.append(name, String(one));
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

/** Path of a process. @param {string} ref */
export function processPath(ref) {
  return `/processes/${encodeURIComponent(ref)}`;
}

/**
 * Read NDJSON, object by object, and hand over those of each piece that came.
 *
 * @param {string} path
 * @param {(objects: any[], size: number) => boolean} take Gets objects and the characters so far; true: enough.
 * @param {AbortSignal} [signal]
 * @returns {Promise<boolean>} Whether everything was read.
 */
export async function readNdjson(path, take, signal) {
  const response = await call(path, { headers: { Accept: NDJSON }, ...(signal ? { signal } : {}) });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let size = 0;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
    size += text.length;
    const lines = (rest + text).split("\n");
    rest = /** @type {string} */ (lines.pop());
    if (done && rest) lines.push(rest);
    if (lines.length > 0 && take(lines.filter(Boolean).map((line) => JSON.parse(line)), size) && !done) {
      void reader.cancel().catch(() => {});
      return false;
    }
    if (done) return true;
  }
}
