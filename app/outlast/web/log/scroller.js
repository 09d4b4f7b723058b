// A list of rows of which only those on the screen are elements. The scrollbar is the browser's own; beyond the height
// that an element can have, its track is scaled, and wheel and keys still move by what they say.

import { inNextFrame } from "../lib/dom.js";
import { makeRow } from "./row.js";

const HIGHEST_PX = 32_000_000; // Chromium: 33,554,428
const OVERSCAN = 4;
const SETTLED_MS = 160;

/**
 * @typedef {object} ScrollerOptions
 * @property {HTMLElement} host The element that scrolls.
 * @property {() => number} count
 * @property {(row: HTMLElement, index: number) => void} fill
 * @property {(first: number, last: number) => void} shown Told of the rows on the screen.
 * @property {(up: boolean) => void} scrolled Told when the user has scrolled.
 */

export class Scroller {
  /** @param {ScrollerOptions} options */
  constructor(options) {
    this.options = options;
    this.host = options.host;
    this.track = document.createElement("div");
    this.window = document.createElement("div");
    this.rows = document.createElement("div");
    this.track.className = "track";
    this.window.className = "window";
    this.rows.className = "rows";
    this.window.append(this.rows);
    this.track.append(this.window);
    this.host.append(this.track);
    this.rowPx = 18;
    this.wraps = false;
    this.isPinned = true;
    /** Row at the top of the screen, and how much of it is above. */
    this.index = 0;
    this.px = 0;
    this.first = 0;
    this.last = -1;
    this.viewPx = 0;
    this.trackPx = 0;
    this.scrollTop = 0;
    this.settling = 0;
    this.isStale = true;
    /** @type {HTMLElement[]} Rows that have left the screen, for those that come. */
    this.pool = [];
    this.paint = () => this.layout();
    this.host.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.resized = new ResizeObserver(() => this.measure());
    this.resized.observe(this.host);
  }

  close() {
    this.resized.disconnect();
    clearTimeout(this.settling);
  }

  /** Paint in the next frame. @param {boolean} [isStale] Whether rows may look different. */
  refresh(isStale = true) {
    this.isStale = this.isStale || isStale;
    inNextFrame(this.paint);
  }

  measure() {
    this.viewPx = this.host.clientHeight;
    this.rowPx = parseFloat(getComputedStyle(this.host).getPropertyValue("--row")) || this.rowPx;
    this.window.style.height = `${this.viewPx}px`;
    // The browser may have moved the bar to make room: its event, which is still to come, is not the user's.
    if (this.isPinned) this.placeBar();
    this.refresh();
  }

  /** Whether places on the track are places of rows. */
  get isExact() {
    return !this.wraps && this.options.count() * this.rowPx <= HIGHEST_PX;
  }

  /** @param {boolean} wraps */
  setWrap(wraps) {
    this.wraps = wraps;
    this.host.classList.toggle("wraps", wraps);
    this.px = 0;
    this.refresh();
  }

  /** Show the end, and stay there. */
  pin() {
    this.isPinned = true;
    this.refresh(false);
  }

  /** Show a row. @param {number} index @param {"top" | "middle" | "near"} where near: move only if it is not shown. */
  show(index, where = "middle") {
    if (this.viewPx === 0) this.measure(); // before the first frame
    const shown = Math.max(1, Math.floor(this.viewPx / this.rowPx));
    if (where === "near" && index > this.index && index < this.index + shown - 1) return;
    this.isPinned = false;
    this.index = where === "top" ? index : index - Math.floor(shown / 3);
    this.px = 0;
    if (this.index < 0) this.index = 0;
    this.refresh(false);
    this.settle();
  }

  /** Move by pixels. @param {number} px */
  move(px) {
    this.isPinned = false;
    this.px += px;
    this.normalize();
    this.refresh(false);
    this.settle();
  }

  /** Make `px` a place in the row `index`. */
  normalize() {
    const count = this.options.count();
    while (this.px < 0 && this.index > 0) {
      this.index -= 1;
      this.px += this.heightOf(this.index);
    }
    for (let height = this.heightOf(this.index); this.px >= height && this.index < count - 1; height = this.heightOf(this.index)) {
      this.px -= height;
      this.index += 1;
    }
    if (this.index === 0 && this.px < 0) this.px = 0;
  }

  /** @param {number} index */
  heightOf(index) {
    if (!this.wraps) return this.rowPx;
    const row = index >= this.first && index <= this.last ? this.rows.children[index - this.first] : null;
    return row instanceof HTMLElement ? row.offsetHeight : this.rowPx;
  }

  onScroll() {
    const top = this.host.scrollTop;
    const moved = top - this.scrollTop;
    if (moved === 0) return;
    this.scrollTop = top;
    this.isPinned = false;
    if (this.isExact) {
      this.index = Math.floor(top / this.rowPx);
      this.px = top - this.index * this.rowPx;
    } else if (Math.abs(moved) < 3 * this.viewPx) {
      this.px += moved;
      this.normalize();
      this.settle();
    } else {
      const most = Math.max(1, this.trackPx - this.viewPx);
      const last = Math.max(0, this.options.count() - Math.floor(this.viewPx / this.rowPx));
      this.index = Math.round((top / most) * last);
      this.px = 0;
      this.settle();
    }
    this.options.scrolled(moved < 0);
    this.refresh(false);
  }

  /** Put the scrollbar where the rows are, once nothing moves. */
  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.placeBar(), SETTLED_MS);
  }

  placeBar() {
    const count = this.options.count();
    const most = this.trackPx - this.viewPx;
    let top = most;
    if (!this.isPinned) {
      const at = this.index * this.rowPx + this.px;
      top = this.isExact ? at : most * Math.min(1, this.index / Math.max(1, count - Math.floor(this.viewPx / this.rowPx)));
    }
    top = Math.max(0, Math.round(top));
    if (Math.abs(this.host.scrollTop - top) >= 1) this.host.scrollTop = top;
    this.scrollTop = this.host.scrollTop;
  }

  layout() {
    const count = this.options.count();
    const height = Math.max(this.viewPx, Math.min(HIGHEST_PX, count * this.rowPx));
    if (height !== this.trackPx) {
      this.trackPx = height;
      this.track.style.height = `${height}px`;
    }
    const fits = Math.ceil(this.viewPx / this.rowPx);
    if (this.isPinned || this.index > count - 1) {
      this.index = Math.max(0, count - fits);
      this.px = 0;
    }
    const first = Math.max(0, this.index - OVERSCAN);
    const last = Math.min(count - 1, this.index + fits + OVERSCAN);
    this.fillRows(first, last);
    this.place(count);
    if (this.isExact || this.isPinned) this.placeBar();
    this.options.shown(this.index, Math.min(count - 1, this.index + fits));
  }

  /** @param {number} first @param {number} last */
  fillRows(first, last) {
    const stale = this.isStale;
    this.isStale = false;
    const had = { first: this.first, last: this.last };
    // Rows that stay on the screen stay the same elements, so that a selection survives.
    while (this.rows.lastElementChild && had.last >= had.first && had.last > last) {
      this.release(this.rows.lastElementChild);
      had.last -= 1;
    }
    while (this.rows.firstElementChild && had.last >= had.first && had.first < first) {
      this.release(this.rows.firstElementChild);
      had.first += 1;
    }
    if (had.first > had.last) {
      [had.first, had.last] = [first, first - 1];
    }
    const kept = { first: had.first, last: had.last };
    for (let index = had.first - 1; index >= first; index -= 1) this.rows.prepend(this.made(index));
    for (let index = had.last + 1; index <= last; index += 1) this.rows.append(this.made(index));
    this.first = first;
    this.last = last;
    if (!stale) return;
    for (let index = kept.first; index <= kept.last; index += 1) {
      this.options.fill(/** @type {HTMLElement} */ (this.rows.children[index - first]), index);
    }
  }

  /** @param {number} index */
  made(index) {
    const row = this.pool.pop() ?? makeRow();
    this.options.fill(row, index);
    return row;
  }

  /** @param {Element} row */
  release(row) {
    row.remove();
    this.pool.push(/** @type {HTMLElement} */ (row));
  }

  /** Move the rows to where they belong. @param {number} count */
  place(count) {
    if (!this.wraps) {
      const bottom = Math.max(0, count * this.rowPx - this.viewPx);
      let top = this.index * this.rowPx + this.px;
      if (this.isPinned || top > bottom) {
        top = bottom;
        this.index = Math.floor(top / this.rowPx);
        this.px = top - this.index * this.rowPx;
      }
      this.rows.style.transform = `translateY(${this.first * this.rowPx - top}px)`;
      return;
    }
    const all = this.rows.offsetHeight;
    let above = 0;
    for (let index = this.first; index < this.index; index += 1) above += this.heightOf(index);
    let offset = -(above + this.px);
    if (this.last === count - 1 && (this.isPinned || offset + all < this.viewPx)) {
      offset = Math.min(0, this.viewPx - all);
      this.findTop(-offset);
    }
    this.rows.style.transform = `translateY(${offset}px)`;
  }

  /** Find the row that lies at a place of what is laid out. @param {number} px */
  findTop(px) {
    let index = this.first;
    for (; index < this.last && px >= this.heightOf(index); index += 1) px -= this.heightOf(index);
    this.index = index;
    this.px = px;
  }
}
