// All lines of one process, as rows: the number of a line is its place. A few pages are kept, the others are read again
// when they are looked at.

import { Emitter } from "../lib/emitter.js";
import { processPath, query, readNdjson } from "../net/api.js";
import { Holes } from "./holes.js";
import { joined, toLine } from "./line.js";

/** @typedef {import("./line.js").Line} Line */

export const PAGE_LINES = 500;
const KEPT_PAGES = 20;
const MOST_CHARACTERS = 8 << 20; // of one answer: lines of a megabyte come a few at a time

/**
 * @typedef {object} Page
 * @property {(Line | undefined)[]} lines By number, less that of the page. Missing are holes, and what was not read.
 * @property {number} usedAt
 * @property {AbortController | null} reading
 */

export class AllLines {
  /** @param {string} ref @param {{first_seq: number, last_seq: number}} output What is stored now. */
  constructor(ref, output) {
    this.ref = ref;
    this.first = Math.max(1, output.first_seq);
    this.last = output.last_seq;
    this.holes = new Holes();
    /** @type {Map<number, Page>} */
    this.pages = new Map();
    /** @type {Map<boolean, Line>} Lines whose rest may come, by whether they are of standard error. */
    this.open = new Map();
    this.uses = 0;
    /** Told when lines came or rows have moved; `moved`: rows that were there have other places now. */
    this.changed = /** @type {Emitter<{moved: boolean}>} */ (new Emitter());
    this.failed = /** @type {Emitter<Error>} */ (new Emitter());
  }

  /** Number of rows. */
  get count() {
    return this.last < this.first ? 0 : this.last - this.first + 1 - this.holesIn(this.first, this.last);
  }

  /** @param {number} from @param {number} to */
  holesIn(from, to) {
    return this.holes.upTo(to) - this.holes.upTo(from - 1);
  }

  /** Row of a number, or of the next one that has a row. @param {number} seq */
  indexOf(seq) {
    const at = Math.min(Math.max(seq, this.first), this.last);
    return Math.min(at - this.first - (at > this.first ? this.holesIn(this.first, at - 1) : 0), Math.max(0, this.count - 1));
  }

  /** @param {number} index */
  seqAt(index) {
    return this.holes.seqOf(this.first, index);
  }

  /** The line of a row; null: it has to be read first. @param {number} index @returns {Line | null} */
  at(index) {
    return this.line(this.seqAt(index));
  }

  /** @param {number} seq @returns {Line | null} */
  line(seq) {
    const page = this.pages.get(pageOf(seq));
    if (!page) return null;
    page.usedAt = ++this.uses;
    return page.lines[(seq - 1) % PAGE_LINES] ?? null;
  }

  /** Read what is missing of some rows, and of no others: who jumps on does not wait for what was passed. @param {number} from @param {number} to */
  need(from, to) {
    const wanted = new Set();
    for (let index = from; index <= to && index < this.count; index += 1) {
      const seq = this.seqAt(index);
      if (this.line(seq) === null && !this.holes.has(seq)) wanted.add(pageOf(seq));
    }
    for (const [number, page] of this.pages) {
      if (page.reading && !wanted.has(number)) {
        page.reading.abort();
        page.reading = null;
      }
    }
    for (const number of wanted) void this.read(number);
  }

  /** @param {number} number */
  page(number) {
    let page = this.pages.get(number);
    if (!page) {
      page = { lines: new Array(PAGE_LINES).fill(undefined), usedAt: ++this.uses, reading: null };
      this.pages.set(number, page);
      this.drop();
    }
    return page;
  }

  drop() {
    while (this.pages.size > KEPT_PAGES) {
      let oldest = -1;
      let usedAt = Infinity;
      for (const [number, page] of this.pages) {
        if (page.usedAt < usedAt) [oldest, usedAt] = [number, page.usedAt];
      }
      this.pages.get(oldest)?.reading?.abort();
      this.pages.delete(oldest);
    }
  }

  /** Read what is missing of a page. @param {number} number */
  async read(number) {
    const page = this.page(number);
    if (page.reading) return;
    const base = number * PAGE_LINES;
    const end = base + PAGE_LINES;
    let before = base;
    while (before < end && (page.lines[before - base] || this.holes.has(before + 1))) before += 1;
    const reading = new AbortController();
    page.reading = reading;
    const lastBefore = this.last;
    /** @param {any[]} objects @param {number} size */
    const take = (objects, size) => {
      for (const told of objects) {
        if (told.id > before + 1) this.holes.add(before + 1, told.id - 1);
        before = told.id;
        if (told.id > end) return true;
        this.put(page, toLine(told.id, told));
      }
      return size > MOST_CHARACTERS;
    };
    try {
      const path = `${processPath(this.ref)}/output${query({ after: before || null, limit: PAGE_LINES + 1 })}`;
      const isWhole = await readNdjson(path, take, reading.signal);
      if (isWhole && before < Math.min(end, lastBefore)) this.holes.add(before + 1, Math.min(end, lastBefore));
    } catch (error) {
      if (!reading.signal.aborted) this.failed.emit(/** @type {Error} */ (error));
      return;
    } finally {
      if (page.reading === reading) page.reading = null;
    }
    this.changed.emit({ moved: true });
  }

  /** @param {Page} page @param {Line} line */
  put(page, line) {
    page.lines[(line.seq - 1) % PAGE_LINES] = line;
    const open = this.open.get(line.err);
    if (line.open && line.seq > this.last - PAGE_LINES) this.open.set(line.err, line);
    else if (!line.open && open && open.seq < line.seq) this.open.delete(line.err);
    if (this.last === 0) this.first = line.seq;
    this.last = Math.max(this.last, line.seq);
  }

  /** Forget lines whose rest would be of a run that has ended. */
  endRun() {
    this.open.clear();
  }

  /** Take lines of the live stream, in their order. @param {Line[]} lines */
  append(lines) {
    let moved = false;
    for (const line of lines) {
      if (line.seq <= this.last && this.line(line.seq)) continue;
      moved = this.appendOne(line) || moved;
    }
    this.changed.emit({ moved });
  }

  /** @param {Line} line */
  appendOne(line) {
    let moved = false;
    const begun = this.open.get(line.err);
    if (begun && !line.gap && begun.seq < line.seq) {
      line = joined(begun, line);
      moved = this.holes.add(begun.seq, begun.seq);
      const page = this.pages.get(pageOf(begun.seq));
      if (page) page.lines[(begun.seq - 1) % PAGE_LINES] = undefined;
    }
    if (line.seq > this.last + 1 && this.last > 0) moved = this.holes.add(this.last + 1, line.seq - 1) || moved;
    this.put(this.page(pageOf(line.seq)), line);
    return moved;
  }

  close() {
    for (const page of this.pages.values()) page.reading?.abort();
  }
}

/** @param {number} seq */
function pageOf(seq) {
  return Math.floor((seq - 1) / PAGE_LINES);
}
