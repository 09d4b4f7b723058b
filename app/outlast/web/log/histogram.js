// How much came when: a strip of bars over the log, and beside the scrollbar a map of where standard error is.

import { h } from "../lib/dom.js";
import { clock, day, plural } from "../lib/format.js";
import { callJson, processPath } from "../net/api.js";

const BUCKETS = 200;
const AGAIN_MS = 5000;

/** @typedef {[number, number, number]} Bucket When it begins, its lines, and those of standard error. */

export class Histogram {
  /** @param {string} ref @param {(ms: number) => void} jump */
  constructor(ref, jump) {
    this.ref = ref;
    this.jump = jump;
    /** @type {Bucket[]} */
    this.buckets = [];
    this.bucketMs = 1;
    this.readAt = -AGAIN_MS;
    this.isReading = false;
    this.strip = h("canvas", { class: "strip", "aria-hidden": "true" });
    this.map = h("canvas", { class: "minimap", "aria-hidden": "true" });
    this.tip = h("output", { class: "strip-tip", "aria-hidden": "true" });
    this.strip.addEventListener("pointerdown", (event) => this.drag(event));
    this.strip.addEventListener("pointermove", (event) => this.point(event));
    this.strip.addEventListener("pointerleave", () => this.tip.replaceChildren());
    this.resized = new ResizeObserver(() => this.paint());
    this.resized.observe(this.strip);
    this.resized.observe(this.map);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.paint();
    this.dark.addEventListener("change", this.repaint);
  }

  close() {
    this.resized.disconnect();
    this.dark.removeEventListener("change", this.repaint);
  }

  /** Read again, if the last time is long enough ago. Called when lines have come, and never by a clock. */
  async read() {
    if (this.isReading || performance.now() - this.readAt < AGAIN_MS) return;
    this.isReading = true;
    try {
      const told = await callJson(`${processPath(this.ref)}/output/histogram?buckets=${BUCKETS}`);
      this.buckets = told.buckets;
      this.bucketMs = Math.max(1, told.bucket_ms);
    } catch {
      return; // the log itself tells what is wrong
    } finally {
      this.isReading = false;
      this.readAt = performance.now();
    }
    this.paint();
  }

  paint() {
    const style = getComputedStyle(this.strip);
    const colours = { out: style.getPropertyValue("--bar"), err: style.getPropertyValue("--err") };
    this.paintStrip(colours);
    this.paintMap(colours);
  }

  /** @param {{out: string, err: string}} colours */
  paintStrip(colours) {
    const { context, width, height } = begin(this.strip);
    const most = Math.max(1, ...this.buckets.map((bucket) => bucket[1]));
    const step = width / Math.max(1, this.buckets.length);
    this.buckets.forEach(([, lines, errors], index) => {
      if (lines === 0) return;
      const full = Math.max(2, Math.round((height - 2) * Math.sqrt(lines / most)));
      const wide = Math.max(1, Math.ceil(step) - (step > 3 ? 1 : 0));
      context.fillStyle = colours.out;
      context.fillRect(Math.floor(index * step), height - full, wide, full);
      if (errors === 0) return;
      const part = Math.max(2, Math.round((full * errors) / lines));
      context.fillStyle = colours.err;
      context.fillRect(Math.floor(index * step), height - part, wide, part);
    });
  }

  /** @param {{out: string, err: string}} colours */
  paintMap(colours) {
    const { context, width, height } = begin(this.map);
    const all = this.buckets.reduce((sum, bucket) => sum + bucket[1], 0);
    let done = 0;
    for (const [, lines, errors] of this.buckets) {
      const from = Math.floor((done / Math.max(1, all)) * height);
      done += lines;
      const to = Math.ceil((done / Math.max(1, all)) * height);
      if (errors === 0) continue;
      context.globalAlpha = 0.25 + 0.75 * Math.min(1, errors / lines);
      context.fillStyle = colours.err;
      context.fillRect(0, from, width, Math.max(2, to - from));
    }
    context.globalAlpha = 1;
  }

  /** @param {PointerEvent} event */
  bucketAt(event) {
    const box = this.strip.getBoundingClientRect();
    const index = Math.floor(((event.clientX - box.left) / box.width) * this.buckets.length);
    return this.buckets[Math.min(this.buckets.length - 1, Math.max(0, index))];
  }

  /** @param {PointerEvent} event */
  point(event) {
    const bucket = this.bucketAt(event);
    if (!bucket) return;
    const [from, lines, errors] = bucket;
    const ofErrors = errors ? `, ${plural(errors, "of standard error", "of standard error")}` : "";
    this.tip.textContent = `${day(from)} ${clock(from)} · ${plural(lines, "line")}${ofErrors}`;
    if (event.buttons & 1) this.jump(from);
  }

  /** @param {PointerEvent} event */
  drag(event) {
    this.strip.setPointerCapture(event.pointerId);
    const bucket = this.bucketAt(event);
    if (bucket) this.jump(bucket[0]);
  }
}

/** @param {HTMLCanvasElement} canvas */
function begin(canvas) {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(scale, scale);
  return { context, width, height };
}
