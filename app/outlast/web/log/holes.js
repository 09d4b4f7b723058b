// Numbers that no line has. A line that came in parts has the number of its last part, and a gap may pass over a
// million numbers: such numbers are holes, and are no rows. They are learnt while pages are read.

/** @typedef {{from: number, to: number, before: number}} Hole `before`: how many numbers are in earlier holes. */

export class Holes {
  constructor() {
    /** @type {Hole[]} Ascending, and never adjacent. */
    this.list = [];
  }

  /** How many numbers up to `seq` are holes. @param {number} seq */
  upTo(seq) {
    const at = this.find(seq);
    const hole = this.list[at];
    if (!hole) return 0;
    return hole.before + Math.min(seq, hole.to) - hole.from + 1;
  }

  /** The number that is the `rank`th, from 0, of those behind `first` that are no holes. @param {number} first @param {number} rank */
  seqOf(first, rank) {
    const base = first + rank - this.upTo(first - 1);
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const hole = /** @type {Hole} */ (this.list[middle]);
      if (hole.from - hole.before <= base) low = middle + 1;
      else high = middle;
    }
    const hole = this.list[low - 1];
    return hole ? base + hole.before + hole.to - hole.from + 1 : base;
  }

  /** @param {number} seq */
  has(seq) {
    const hole = this.list[this.find(seq)];
    return hole !== undefined && seq <= hole.to;
  }

  /** Add a hole. Returns whether anything was new. @param {number} from @param {number} to */
  add(from, to) {
    if (from > to) return false;
    let at = this.find(from - 1);
    let first = at + 1;
    const left = this.list[at];
    if (left && left.to >= from - 1) {
      if (left.to >= to) return false;
      from = left.from;
      first = at;
    }
    let end = first;
    for (let hole = this.list[end]; hole && hole.from <= to + 1; hole = this.list[end]) {
      to = Math.max(to, hole.to);
      end += 1;
    }
    this.list.splice(first, end - first, { from, to, before: 0 });
    for (at = first; at < this.list.length; at += 1) {
      const previous = this.list[at - 1];
      const hole = /** @type {Hole} */ (this.list[at]);
      hole.before = previous ? previous.before + previous.to - previous.from + 1 : 0;
    }
    return true;
  }

  /** Index of the last hole that begins at or before `seq`, or -1. @param {number} seq */
  find(seq) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (/** @type {Hole} */ (this.list[middle]).from <= seq) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
