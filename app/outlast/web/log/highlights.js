// Where the lines on the screen match: the daemon tells it, because a browser's expressions are not its own.

import { readMatches } from "./needle.js";

/** @typedef {import("./needle.js").Needle} Needle */

const KEPT = 4000;
const WAIT_MS = 60;

export class Highlights {
  /** @param {string} ref @param {() => void} found @param {(error: Error) => void} failed */
  constructor(ref, found, failed) {
    this.ref = ref;
    this.found = found;
    this.failed = failed;
    /** @type {Needle | null} */
    this.needle = null;
    /** @type {Map<number, number[][]>} */
    this.spans = new Map();
    this.timer = 0;
    this.reading = new AbortController();
  }

  /** @param {Needle | null} needle */
  search(needle) {
    this.close();
    this.needle = needle?.grep ? needle : null;
  }

  /** @param {number} seq */
  of(seq) {
    return this.spans.get(seq) ?? null;
  }

  /** Look at the lines on the screen. @param {number} first @param {number} last */
  look(first, last) {
    if (!this.needle || last < first) return;
    let seq = first;
    while (seq <= last && this.spans.has(seq)) seq += 1;
    if (seq > last || this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      void this.read(first, last);
    }, WAIT_MS);
  }

  /** @param {number} first @param {number} last */
  async read(first, last) {
    const { needle } = this;
    if (!needle) return;
    this.reading.abort();
    const reading = new AbortController();
    this.reading = reading;
    try {
      const range = { after: first > 1 ? first - 1 : null, before: last + 1, limit: last - first + 1 };
      const lines = await readMatches(this.ref, needle, range, reading.signal);
      if (this.spans.size > KEPT) this.spans.clear();
      for (let seq = first; seq <= last; seq += 1) if (!this.spans.has(seq)) this.spans.set(seq, []);
      for (const line of lines) this.spans.set(line.seq, line.spans ?? []);
      this.found();
    } catch (error) {
      if (reading.signal.aborted) return;
      this.needle = null; // until the next search
      this.failed(/** @type {Error} */ (error));
    }
  }

  close() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.reading.abort();
    this.spans.clear();
    this.needle = null;
  }
}
