// A stream of events that stays: it reconnects by itself, behind the last event that came.

import { ApiError, call } from "./api.js";
import { isLive, onLiveChange } from "./slots.js";
import { SseParser } from "./sse.js";

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5000;
const SILENCE_MS = 40000; // a comment comes each 15 s
const SLICE_MS = 8;

/** @typedef {import("./sse.js").StreamEvent} StreamEvent */
/** @typedef {"connecting" | "live" | "waiting" | "resting" | "over" | "failed"} StreamState */

/**
 * @typedef {object} StreamOptions
 * @property {() => string} path Path below /api/v1 of the next connection.
 * @property {(events: StreamEvent[]) => void} take
 * @property {(state: StreamState, error: ApiError | null) => void} tell
 * @property {string} [lastId]
 */

export class Stream {
  /** @param {StreamOptions} options */
  constructor(options) {
    this.options = options;
    this.lastId = options.lastId ?? "";
    /** @type {StreamState} */
    this.state = "connecting";
    this.delay = FIRST_DELAY_MS;
    /** @type {AbortController | null} */
    this.connection = null;
    this.timer = 0;
    this.isClosed = false;
    this.forget = onLiveChange(() => this.adjust());
    this.adjust();
  }

  /** End the stream for good. */
  close() {
    this.isClosed = true;
    this.forget();
    this.hangUp();
  }

  /** Connect again, now. */
  retry() {
    this.hangUp();
    if (this.state === "failed" || this.state === "over") this.state = "waiting";
    this.adjust();
  }

  /** Rest while nobody looks at the page; go on otherwise. */
  adjust() {
    if (this.isClosed || this.state === "over" || this.state === "failed") return;
    if (!isLive()) {
      this.hangUp();
      this.tell("resting", null);
    } else if (this.connection === null && !this.timer) {
      void this.connect();
    }
  }

  hangUp() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.connection?.abort();
    this.connection = null;
  }

  /** @param {StreamState} state @param {ApiError | null} error */
  tell(state, error) {
    this.state = state;
    this.options.tell(state, error);
  }

  async connect() {
    const connection = new AbortController();
    this.connection = connection;
    try {
      await this.read(connection);
    } catch (error) {
      if (connection.signal.aborted && this.connection !== connection) return;
      this.connection = null;
      if (error instanceof ApiError && !error.isPassing) {
        this.tell("failed", error);
        return;
      }
      this.tell("waiting", error instanceof ApiError ? error : new ApiError(0, "UNREACHABLE", "the connection broke off"));
      const delay = this.delay * (0.75 + Math.random() / 2);
      this.delay = Math.min(LONGEST_DELAY_MS, this.delay * 2);
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.adjust();
      }, delay);
    }
  }

  /** @param {AbortController} connection */
  async read(connection) {
    const headers = { Accept: "text/event-stream", ...(this.lastId ? { "Last-Event-ID": this.lastId } : {}) };
    let silence = setTimeout(() => connection.abort(), SILENCE_MS);
    try {
      const response = await call(this.options.path(), { headers, signal: connection.signal });
      if (response.status === 204 || !response.body) {
        this.finish(connection);
        return;
      }
      this.tell("live", null);
      const parser = new SseParser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      let slice = performance.now();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new ApiError(0, "BROKEN", "the connection broke off");
        this.delay = FIRST_DELAY_MS;
        clearTimeout(silence);
        silence = setTimeout(() => connection.abort(), SILENCE_MS);
        if (this.connection !== connection) return;
        if (this.hand(parser.feed(decoder.decode(value, { stream: true })))) {
          this.finish(connection);
          return;
        }
        if (performance.now() - slice > SLICE_MS) {
          await pause();
          slice = performance.now();
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }

  /** Hand events over. Returns whether the stream has come to its end. @param {StreamEvent[]} events */
  hand(events) {
    if (events.length === 0) return false;
    for (const event of events) if (event.id) this.lastId = event.id;
    this.options.take(events);
    return /** @type {StreamEvent} */ (events.at(-1)).type === "eof";
  }

  /** @param {AbortController} connection */
  finish(connection) {
    if (this.connection !== connection) return;
    this.connection = null;
    this.tell("over", null);
    connection.abort();
  }
}

const channel = new MessageChannel();
/** @type {(() => void)[]} */
const paused = [];
channel.port1.onmessage = () => paused.shift()?.();

/** Let the browser paint and take input before the next piece. @returns {Promise<void>} */
function pause() {
  return new Promise((resolve) => {
    paused.push(resolve);
    channel.port2.postMessage(null);
  });
}
