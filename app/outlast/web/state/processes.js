// The processes of the daemon: read once, then kept up to date by its events.

import { Emitter } from "../lib/emitter.js";
import { ApiError, callJson, processPath } from "../net/api.js";
import { Stream } from "../net/stream.js";

/** @typedef {import("../net/stream.js").StreamState} StreamState */

/**
 * @typedef {object} Process
 * @property {string} id
 * @property {number} handle
 * @property {number} pid
 * @property {string} status
 * @property {string | null} reason
 * @property {number | null} exit_code
 * @property {number | null} signal
 * @property {boolean} stdin_writable
 * @property {string} command
 * @property {string[]} args
 * @property {number} started_at
 * @property {number | null} ended_at
 * @property {any} managed
 * @property {string | null} name
 * @property {Record<string, string>} tags
 * @property {string} working_dir
 * @property {string | null} user
 * @property {number} run
 * @property {{lines: number, bytes: number, first_seq: number, last_seq: number, last_at: number | null}} output
 */

/** @typedef {{id: number, type: string, process_id: string, name: string | null, pid: number, run: number, timestamp: number, exit_code?: number | null, signal?: number | null, reason?: string}} ProcessEvent */

const TOGETHER_MS = 120;
const ONE_BY_ONE = 20;
const KEPT_EVENTS = 500;
const FRESH_MS = 10_000;

class Processes {
  constructor() {
    /** @type {Map<string, Process>} */
    this.all = new Map();
    /** @type {string | null} Cursor of the next older page. */
    this.next = null;
    this.isRead = false;
    this.readAt = 0;
    /** @type {ProcessEvent[]} The latest, oldest first. */
    this.events = [];
    /** @type {StreamState} */
    this.state = "connecting";
    /** @type {ApiError | null} */
    this.error = null;
    this.changed = /** @type {Emitter<void>} */ (new Emitter());
    this.happened = /** @type {Emitter<ProcessEvent>} */ (new Emitter());
    this.connected = /** @type {Emitter<void>} */ (new Emitter());
    /** @type {Set<string>} */
    this.due = new Set();
    this.timer = 0;
    /** @type {Stream | null} */
    this.stream = null;
  }

  /** Begin to follow. Events come first, so that what happens while the list is read is not missed. */
  open() {
    this.stream = new Stream({
      path: () => "/events?tail=200",
      take: (events) => events.forEach((event) => this.onEvent(Number(event.id), event.type, event.data)),
      tell: (state, error) => this.tell(state, error),
    });
  }

  /** @param {StreamState} state @param {ApiError | null} error */
  tell(state, error) {
    this.state = state;
    this.error = error;
    if (state === "live") {
      if (!this.isRead) void this.read();
      this.connected.emit();
    }
    this.changed.emit();
  }

  async read() {
    try {
      const page = await callJson("/processes");
      for (const one of page.processes) this.all.set(one.id, one);
      if (!this.isRead) this.next = page.next; // later, older pages are there already
      this.isRead = true;
      this.readAt = performance.now();
    } catch (error) {
      this.error = /** @type {ApiError} */ (error);
    }
    this.changed.emit();
  }

  /** Somebody looks at the list: read it again if it is not fresh. */
  look() {
    if (this.isRead && this.state === "live" && performance.now() - this.readAt > FRESH_MS) void this.read();
  }

  /** A line of a process has come. @param {string} id @param {number} at Time at which it was read. */
  printed(id, at) {
    const output = this.all.get(id)?.output;
    if (output && at > (output.last_at ?? 0)) output.last_at = at;
  }

  async readOlder() {
    if (!this.next) return;
    const page = await callJson(`/processes?cursor=${encodeURIComponent(this.next)}`);
    for (const one of page.processes) this.all.set(one.id, one);
    this.next = page.next;
    this.changed.emit();
  }

  /** @param {number} id @param {string} type @param {any} data */
  onEvent(id, type, data) {
    const event = /** @type {ProcessEvent} */ ({ ...data, id, type });
    this.events.push(event);
    if (this.events.length > KEPT_EVENTS) this.events.shift();
    if (type === "purged" || type === "failed") this.all.delete(event.process_id);
    else if (this.isRead) this.refresh(event.process_id);
    this.happened.emit(event);
    this.changed.emit();
  }

  /** Read a process again, soon. @param {string} id */
  refresh(id) {
    this.due.add(id);
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      const due = [...this.due];
      this.due.clear();
      if (due.length > ONE_BY_ONE) void this.read();
      else for (const one of due) void this.load(one).catch(() => {});
    }, TOGETHER_MS);
  }

  /** Read a process by any reference. @param {string} ref @returns {Promise<Process>} */
  async load(ref) {
    try {
      const found = /** @type {Process} */ (await callJson(processPath(ref)));
      this.all.set(found.id, found);
      this.changed.emit();
      return found;
    } catch (error) {
      if (error instanceof ApiError && error.code === "NOT_FOUND") this.all.delete(ref);
      throw error;
    }
  }

  /** The process that a reference names, if it is known. @param {string} ref */
  find(ref) {
    const handle = /^@(\d+)$/.exec(ref)?.[1];
    for (const one of this.all.values()) {
      if (handle ? one.handle === Number(handle) : one.id === ref || one.name === ref) return one;
    }
    return null;
  }

  /** Newest first. */
  list() {
    return [...this.all.values()].sort((one, other) => other.handle - one.handle);
  }
}

export const processes = new Processes();

/** What a process is called on this page. @param {Process} one */
export function label(one) {
  return one.name ?? `${one.command.split("/").at(-1)} @${one.handle}`;
}

/** Short permanent reference. @param {Process} one */
export function refOf(one) {
  return `@${one.handle}`;
}

/** In which state a process is, for its dot: running, waiting, unhealthy, ok, failed or lost. @param {Process} one */
export function health(one) {
  if (one.status === "running") return one.managed?.health_status === "unhealthy" ? "unhealthy" : "running";
  if (one.managed?.status === "backing_off" || one.managed?.status === "starting") return "waiting";
  if (one.reason === "lost") return "lost";
  return one.exit_code === 0 ? "ok" : "failed";
}

const WORDS = /** @type {Record<string, string>} */ ({
  running: "running", unhealthy: "unhealthy", waiting: "waits for its restart", lost: "lost", ok: "ended", failed: "failed",
});

/** @param {Process} one */
export function healthWord(one) {
  return WORDS[health(one)] ?? one.status;
}
