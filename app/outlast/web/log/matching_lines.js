// Only the lines that match, as rows: read from the end backwards, and on from there when new ones come.

import { Emitter } from "../lib/emitter.js";
import { readMatches } from "./needle.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {import("./needle.js").Needle} Needle */

const PAGE_LINES = 300;
const KEPT_LINES = 12000;
const NEAR = 60;
const NEWER_EVERY_MS = 250;

export class MatchingLines {
  /** @param {string} ref @param {Needle} needle @param {number} last Number of the last line that is there. */
  constructor(ref, needle, last) {
    this.ref = ref;
    this.needle = needle;
    /** @type {Line[]} */
    this.lines = [];
    this.last = last;
    this.hasOlder = true;
    this.hasNewer = false;
    this.isReading = false;
    this.isAsked = false;
    this.timer = 0;
    this.end = new AbortController();
    this.changed = /** @type {Emitter<{moved: boolean}>} */ (new Emitter());
    this.failed = /** @type {Emitter<Error>} */ (new Emitter());
  }

  get count() {
    return this.lines.length;
  }

  /** @param {number} index */
  at(index) {
    return this.lines[index] ?? null;
  }

  /** @param {number} index */
  seqAt(index) {
    return this.lines[index]?.seq ?? 0;
  }

  /** Row of a line, or of the next one that matches. @param {number} seq */
  indexOf(seq) {
    let low = 0;
    let high = this.lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.seqAt(middle) < seq) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, Math.max(0, this.lines.length - 1));
  }

  /** @param {number} from @param {number} to */
  need(from, to) {
    if (from < NEAR && this.hasOlder) void this.readOlder();
    else if (to > this.lines.length - NEAR && this.hasNewer) void this.readNewer();
  }

  async open() {
    await this.readOlder();
  }

  async readOlder() {
    await this.read({ before: this.lines[0]?.seq ?? this.last + 1, limit: PAGE_LINES }, (found) => {
      this.hasOlder = found.filter((line) => !line.gap).length >= PAGE_LINES;
      this.lines = [...found, ...this.lines];
      if (this.lines.length > KEPT_LINES) {
        this.lines.length = KEPT_LINES;
        this.hasNewer = true;
      }
    });
  }

  async readNewer() {
    const after = this.hasNewer ? (this.lines.at(-1)?.seq ?? 0) : this.last;
    const { last } = this;
    await this.read({ after: after || null, limit: PAGE_LINES }, (found) => {
      this.hasNewer = found.length >= PAGE_LINES;
      this.lines.push(...found);
      if (this.lines.length > KEPT_LINES) {
        this.lines.splice(0, this.lines.length - KEPT_LINES);
        this.hasOlder = true;
      }
      this.last = Math.max(last, found.at(-1)?.seq ?? 0);
    });
  }

  /** @param {Record<string, unknown>} range @param {(found: Line[]) => void} take */
  async read(range, take) {
    if (this.isReading) return;
    this.isReading = true;
    try {
      take(await readMatches(this.ref, this.needle, range, this.end.signal));
    } catch (error) {
      if (!this.end.signal.aborted) this.failed.emit(/** @type {Error} */ (error));
      return;
    } finally {
      this.isReading = false;
    }
    this.changed.emit({ moved: true });
  }

  /** Lines have come: read those that match, a few times a second at most. @param {Line[]} _lines */
  append(_lines) {
    this.isAsked = true;
    if (this.timer || this.hasNewer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (!this.isAsked) return;
      this.isAsked = false;
      void this.readNewer();
    }, NEWER_EVERY_MS);
  }

  endRun() {
    // The daemon joins the parts of lines.
  }

  close() {
    clearTimeout(this.timer);
    this.end.abort();
  }
}
