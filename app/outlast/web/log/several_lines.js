// The lines of several processes in one list, in the order in which they came.

import { Emitter } from "../lib/emitter.js";
import { joined } from "./line.js";

/** @typedef {import("./line.js").Line} Line */

const KEPT_LINES = 20000;

export class SeveralLines {
  constructor() {
    /** @type {Line[]} */
    this.lines = [];
    this.dropped = 0;
    this.last = 0;
    /** @type {Map<string, Line>} */
    this.open = new Map();
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

  /** Number of a row that stays the same while rows before it are dropped. @param {number} index */
  seqAt(index) {
    return this.dropped + index + 1;
  }

  /** @param {number} number */
  indexOf(number) {
    return Math.min(Math.max(0, number - this.dropped - 1), Math.max(0, this.lines.length - 1));
  }

  need() {
    // What is not here was never asked for: the stream begins at the last lines of each process.
  }

  /** @param {Line[]} lines */
  append(lines) {
    for (const line of lines) {
      const key = `${line.of} ${line.err}`;
      const begun = this.open.get(key);
      if (begun && !line.gap) {
        Object.assign(begun, joined(begun, line));
        if (!line.open) this.open.delete(key);
        continue;
      }
      if (line.open) this.open.set(key, line);
      this.lines.push(line);
    }
    const excess = this.lines.length - KEPT_LINES;
    if (excess > 0) {
      this.lines.splice(0, excess);
      this.dropped += excess;
    }
    this.changed.emit({ moved: true });
  }

  endRun() {
    this.open.clear();
  }

  close() {
    this.lines = [];
  }
}
