// Only the lines that match, or those of one run, as rows: read from the end backwards, and on from there when new ones come.

import { Emitter } from "../lib/emitter.js";
import { readMatches } from "./needle.js";
import { ALL_RUNS, NO_LINES, rangeOfRun } from "./run_range.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {import("./needle.js").Needle} Needle */

const PAGE_LINES = 300;
const KEPT_LINES = 12000;
const NEAR = 60;
const NEWER_EVERY_MS = 250;

export class MatchingLines {
  /**
   * @param {string} ref
   * @param {Needle} needle
   * @param {number} last Number of the last line that is there.
   * @param {number} run Run whose lines are shown; 0: all.
   */
  constructor(ref, needle, last, run) {
    this.ref = ref;
    this.needle = needle;
    this.run = run;
    this.range = ALL_RUNS;
    this.isBounded = run === 0;
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
    if (!this.isBounded) return; // what is read before would be of any run
    if (from < NEAR && this.hasOlder) void this.readOlder();
    else if (to > this.lines.length - NEAR && this.hasNewer) void this.readNewer();
  }

  async open() {
    if (this.run && !(await this.bound())) return;
    await this.readOlder();
  }

  /** Learn which lines are of the run. Returns whether that is known. */
  async bound() {
    try {
      const range = await rangeOfRun(this.ref, this.run, this.last);
      if (this.range.to === Infinity) this.range = range; // an answer that came late does not open what is closed
    } catch (error) {
      this.range = NO_LINES;
      if (!this.end.signal.aborted) this.failed.emit(/** @type {Error} */ (error));
      return false;
    }
    this.isBounded = true;
    return true;
  }

  /** The next run has begun: its lines do not belong here. */
  async leaveOthers() {
    if (!(await this.bound()) || this.range.to === Infinity) return;
    this.lines = this.lines.filter((line) => line.seq <= this.range.to);
    this.changed.emit({ moved: true });
  }

  async readOlder() {
    const { from, to } = this.range;
    const before = this.lines[0]?.seq ?? Math.min(this.last, to) + 1;
    if (before <= from) {
      this.hasOlder = false;
      return;
    }
    await this.read({ after: from - 1 || null, before, limit: PAGE_LINES }, (found) => {
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
    await this.read({ after: Math.max(after, this.range.from - 1) || null, limit: PAGE_LINES }, (found) => {
      const inside = found.filter((line) => line.seq <= this.range.to);
      this.hasNewer = found.length >= PAGE_LINES && inside.length === found.length;
      this.lines.push(...inside);
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
    if (this.timer || this.hasNewer || this.range.to < Infinity) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (!this.isAsked) return;
      this.isAsked = false;
      void this.readNewer();
    }, NEWER_EVERY_MS);
  }

  /** A run has begun or ended. The daemon joins the parts of lines. */
  endRun() {
    if (this.run && this.range.to === Infinity) void this.leaveOthers();
  }

  close() {
    clearTimeout(this.timer);
    this.end.abort();
  }
}
