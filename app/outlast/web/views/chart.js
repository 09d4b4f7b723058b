// Curves of resource use, as SVG.

import { h, svg } from "../lib/dom.js";
import { clock } from "../lib/format.js";

const WIDTH = 600;
const HEIGHT = 120;
const HEADROOM = 1.25;

/** Points of a curve. @param {number[]} values @param {number} width @param {number} height @param {number} most */
function points(values, width, height, most) {
  const step = width / Math.max(1, values.length - 1);
  return values.map((value, index) => `${(index * step).toFixed(1)},${(height - 1 - (value / Math.max(most, 1e-9)) * (height - 2)).toFixed(1)}`);
}

/** A small curve with its last value. @param {number[]} values @param {string} title @param {(value: number) => string} format */
export function sparkline(values, title, format) {
  const line = points(values, 72, 18, Math.max(...values)).join(" ");
  return h("span", { class: "spark", title: `${title} of late` },
    svg("svg", { viewBox: "0 0 72 18", width: "72", height: "18", "aria-hidden": "true" }, svg("polyline", { points: line })),
    h("span", null, h("span", { class: "offscreen" }, `${title} `), format(values.at(-1) ?? 0)));
}

/**
 * A curve over time, with its highest value and both ends of time.
 *
 * @param {string} title
 * @param {number[]} times
 * @param {(number | null)[]} values
 * @param {(value: number) => string} format
 */
export function chart(title, times, values, format) {
  const known = values.map((value) => value ?? 0);
  const most = Math.max(...known, 0);
  const line = points(known, WIDTH, HEIGHT, most * HEADROOM);
  const area = `0,${HEIGHT} ${line.join(" ")} ${WIDTH},${HEIGHT}`;
  return h("figure", { class: "chart" },
    h("figcaption", null, h("span", null, title), h("strong", null, format(known.at(-1) ?? 0)), h("span", { class: "dim" }, `highest ${format(most)}`)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${format(known.at(-1) ?? 0)}, highest ${format(most)}` },
      svg("polygon", { points: area }), svg("polyline", { points: line.join(" ") })),
    h("div", { class: "axis" }, h("span", null, clock(times[0] ?? 0).slice(0, 8)), h("span", null, clock(times.at(-1) ?? 0).slice(0, 8))));
}
