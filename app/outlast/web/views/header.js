// The head of a process: what it is, how it is, what can be done with it, and its tabs.

import { fill, h, setText } from "../lib/dom.js";
import { ending, moment, duration } from "../lib/format.js";
import { href, place } from "../state/place.js";
import { health, healthWord, label, processes, refOf } from "../state/processes.js";

/** @typedef {import("../state/processes.js").Process} Process */

const TABS = [["log", "Log"], ["events", "Events"], ["runs", "Runs"], ["stats", "Stats"], ["details", "Details"]];

export class Header {
  constructor() {
    this.title = h("h1", null);
    this.state = h("span", { class: "badge" });
    this.facts = h("span", { class: "facts" });
    this.charts = h("span", { class: "charts" });
    this.buttons = h("span", { class: "buttons" });
    this.tabs = h("nav", { class: "tabs", "aria-label": "Views of the process" });
    this.element = h("header", { class: "head" }, h("div", { class: "line" }, this.title, this.state, this.facts, this.charts, this.buttons), this.tabs);
  }

  /** @param {Process} one */
  show(one) {
    setText(this.title, label(one));
    this.state.className = `badge ${health(one)}`;
    setText(this.state, one.status === "running" || health(one) === "waiting" ? healthWord(one) : ending(one));
    const time = one.ended_at ? `ended ${moment(one.ended_at)}, after ${duration(one.ended_at - one.started_at)}` : `since ${moment(one.started_at)}`;
    setText(this.facts, [refOf(one), `pid ${one.pid}`, one.run > 1 ? `run ${one.run}` : "", time].filter(Boolean).join(" · "));
    const isRunning = one.status === "running";
    const state = [isRunning, one.managed !== null, one.stdin_writable, place.tab].join();
    if (this.buttons.dataset["state"] !== state) {
      this.buttons.dataset["state"] = state;
      const now = () => processes.find(one.id) ?? one;
      fill(this.buttons,
        one.managed && button("Restart", async () => (await actions()).restart(now())),
        isRunning && button("Signal…", async () => (await actions()).signal(now())),
        one.stdin_writable && isRunning && button("Input…", async () => (await actions()).input(now())),
        (isRunning || one.managed) && button("Stop…", async () => (await actions()).stop(now())));
      fill(this.tabs, TABS.map(([tab = "", title = ""]) =>
        h("a", { href: href({ process: place.process, tab }), "aria-current": tab === place.tab ? "page" : null }, title)));
    }
  }

  /** Processor and memory of late. @param {any} stats */
  async showStats(stats) {
    const history = stats?.history ?? [];
    if (history.length < 2) {
      fill(this.charts);
      return;
    }
    const { sparkline } = await import("./chart.js");
    const percents = history.map((/** @type {any} */ one) => one.cpu.percent ?? 0);
    const sizes = history.map((/** @type {any} */ one) => one.memory.rss_bytes ?? 0);
    fill(this.charts, sparkline(percents, "Processor", (value) => `${value.toFixed(0)} %`), sparkline(sizes, "Memory", (value) => `${(value / (1 << 20)).toFixed(0)} MiB`));
  }
}

function actions() {
  return import("./actions.js");
}

/** @param {string} text @param {() => Promise<void>} act */
function button(text, act) {
  return h("button", { type: "button", onclick: () => void act() }, text);
}
