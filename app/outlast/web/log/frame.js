// What stands around the rows of a log: strip, map, pill, foot.

import { fill, h, setText } from "../lib/dom.js";
import { clock, count, plural } from "../lib/format.js";
import { isResting } from "../net/slots.js";

const STATES = /** @type {Record<string, string>} */ ({
  connecting: "connecting …",
  waiting: "the daemon does not answer: trying again …",
  over: "ended",
  resting: "paused: this page is in the background",
});

/**
 * @typedef {object} Shown
 * @property {{count: number, at: (index: number) => import("./line.js").Line | null}} lines
 * @property {boolean} isMatches
 * @property {boolean} isRun Whether the lines are those of one run.
 * @property {boolean} isRead Whether the stored lines were read.
 * @property {number} bottom Last row on the screen.
 * @property {number} rate Lines a second.
 * @property {string} state Of the stream.
 * @property {string} trouble A sentence instead; "" for none.
 * @property {boolean} follows
 * @property {number} newLines How many came since it does not follow.
 */

export class Frame {
  /** @param {HTMLElement} toolbar @param {import("./histogram.js").Histogram | null} histogram @param {() => void} follow */
  constructor(toolbar, histogram, follow) {
    this.host = h("div", { class: "log", tabindex: "0", role: "region", "aria-label": "Output" });
    this.pill = h("button", { type: "button", class: "pill", hidden: true, onclick: follow });
    this.empty = h("p", { class: "empty", hidden: true });
    this.figures = h("span", { class: "figures" });
    this.state = h("span", { class: "state" });
    this.element = h("section", { class: "log-view", "aria-label": "Log" },
      toolbar,
      histogram && h("div", { class: "strip-line" }, histogram.strip, histogram.tip),
      h("div", { class: "log-body" }, this.host, histogram && histogram.map, this.empty, this.pill),
      h("footer", { class: "foot" }, this.figures, this.state));
  }

  /** @param {Shown} shown */
  show(shown) {
    const all = shown.lines.count;
    const bottom = Math.min(shown.bottom, all - 1);
    const line = all ? shown.lines.at(bottom) : null;
    const total = shown.isMatches ? plural(all, "match", "matches") : plural(all, "line");
    const parts = [`${count(bottom + 1)} of ${total}`, line && clock(line.at), shown.rate && `${count(shown.rate)} lines/s`];
    setText(this.figures, parts.filter(Boolean).join(" · "));
    setText(this.state, shown.trouble || stateText(shown));
    this.state.dataset["state"] = shown.state;
    const hasNew = !shown.follows && shown.newLines > 0;
    this.pill.hidden = shown.follows;
    setText(this.pill, hasNew ? `↓ ${count(shown.newLines)} new (End)` : "↓ End");
    this.empty.hidden = all > 0;
    if (!this.empty.hidden) fill(this.empty, emptyText(shown));
  }
}

/** @param {Shown} shown */
function stateText({ state, follows }) {
  if (state === "live") return follows ? "following" : "live, not following (f)";
  if (isResting()) return "paused: other windows of this page are live. Click here to go on";
  return STATES[state] ?? state;
}

/** @param {Shown} shown */
function emptyText({ isMatches, isRun, isRead, state }) {
  if (!isRead) return isMatches ? "Searching …" : "Reading …";
  if (isMatches) return "No line matches.";
  if (isRun) return "This run has printed nothing.";
  if (state === "over") return "It has ended and printed nothing.";
  return "Nothing was printed yet. New lines appear here.";
}
