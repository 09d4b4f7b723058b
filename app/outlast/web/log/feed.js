// The live stream of a log, into its rows.

import { query, processPath } from "../net/api.js";
import { Stream } from "../net/stream.js";
import { toLine } from "./line.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {import("../net/stream.js").StreamState} StreamState */
/** @typedef {import("../net/api.js").ApiError} ApiError */

const RATE_MS = 3000;
const SEVERAL_TAIL = 200;

/**
 * @typedef {object} FeedOptions
 * @property {(lines: Line[]) => void} take
 * @property {(state: StreamState, error: ApiError | null) => void} tell
 * @property {(told: any) => void} [joined] Told of processes that are followed from now on.
 */

export class Feed {
  /** @param {string} path @param {FeedOptions} options @param {string} lastId */
  constructor(path, options, lastId) {
    this.options = options;
    /** @type {[number, number][]} Times at which lines came, and how many. */
    this.came = [];
    this.stream = new Stream({
      path: () => path,
      take: (events) => this.take(events),
      tell: options.tell,
      lastId,
    });
  }

  /** @param {import("../net/sse.js").StreamEvent[]} events */
  take(events) {
    /** @type {Line[]} */
    const lines = [];
    for (const { id, type, data } of events) {
      if (type === "output") lines.push(toLine(data.seq ?? Number(id), data));
      else if (type === "gap") lines.push(toLine(data.seq ?? Number(id), { ...data, gap: data }));
      else if (type === "joined") this.options.joined?.(data);
    }
    if (lines.length === 0) return;
    this.came.push([performance.now(), lines.length]);
    this.options.take(lines);
  }

  /** Lines a second, of late. */
  rate() {
    const now = performance.now();
    while (this.came[0] && this.came[0][0] < now - RATE_MS) this.came.shift();
    return Math.round((this.came.reduce((sum, [, lines]) => sum + lines, 0) * 1000) / RATE_MS);
  }

  close() {
    this.stream.close();
  }
}

/** Feed of one process, behind a line. @param {string} ref @param {number} after @param {FeedOptions} options */
export function followOne(ref, after, options) {
  return new Feed(`${processPath(ref)}/output/follow`, options, String(after));
}

/** Feed of several processes. @param {string[]} refs @param {string} tag @param {FeedOptions} options */
export function followSeveral(refs, tag, options) {
  return new Feed(`/output/follow${query({ process: refs, tag, tail: SEVERAL_TAIL })}`, options, "");
}
