// The line over a log: what is searched for, which lines are shown, and how.

import { fill, h } from "../lib/dom.js";

/**
 * @typedef {object} ToolbarOptions
 * @property {boolean} isSingle Whether the log is of one process, which the daemon can search.
 * @property {(grep: string) => void} search
 * @property {(name: "regex" | "case" | "only", grep: string) => void} toggle
 * @property {(stream: string) => void} stream
 * @property {(run: number) => void} run
 * @property {(next: boolean) => void} step
 * @property {() => void} wrap
 * @property {() => void} times
 * @property {() => void} jump
 * @property {() => void} save
 */

const SEARCH_MS = 250;

export class Toolbar {
  /** @param {ToolbarOptions} options */
  constructor(options) {
    let timer = 0;
    const search = () => {
      clearTimeout(timer);
      options.search(this.field.value);
    };
    /** @param {"regex" | "case" | "only"} name */
    const toggled = (name) => {
      clearTimeout(timer);
      options.toggle(name, this.field.value); // what was typed a moment ago counts
    };
    this.field = h("input", {
      type: "search", class: "needle", placeholder: "Search this log  /", "aria-label": "Search this log", spellcheck: "false", autocomplete: "off",
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(search, SEARCH_MS);
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter") {
          search();
          options.step(event.shiftKey);
        } else if (event.key === "Escape") {
          this.field.blur();
        }
      },
    });
    this.regex = toggle(".*", "Regular expression of RE2 (.*)", () => toggled("regex"));
    this.case = toggle("aA", "Ignore case (aA)", () => toggled("case"));
    this.only = toggle("Only matches", "Show only lines that match", () => toggled("only"));
    this.stdout = toggle("stdout", "Show standard output", () => options.stream(this.shown(true, false)));
    this.stderr = toggle("stderr", "Show standard error", () => options.stream(this.shown(false, true)));
    this.run = h("select", { class: "run", "aria-label": "Run", title: "Show the lines of one run", hidden: true, onchange: () => options.run(Number(this.run.value)) });
    this.wrap = toggle("Wrap", "Wrap long lines (w)", options.wrap);
    this.times = toggle("Times", "Show times", options.times);
    this.message = h("span", { class: "message", role: "status" });
    this.element = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Log" },
      options.isSingle && h("span", { class: "group field" }, this.field, this.regex, this.case),
      options.isSingle && h("span", { class: "group" },
        button("↑", "Previous match (N)", () => options.step(true)), button("↓", "Next match (n)", () => options.step(false)), this.only),
      options.isSingle && h("span", { class: "group" }, this.stdout, this.stderr),
      options.isSingle && this.run,
      this.message,
      h("span", { class: "group end" },
        options.isSingle && button("Go to…", "Go to a time or a line (t)", options.jump),
        this.wrap, this.times,
        options.isSingle && button("Save…", "Download the output", options.save)));
  }

  /** Streams that are shown after one of the two was toggled. @param {boolean} out @param {boolean} err */
  shown(out, err) {
    const stdout = isOn(this.stdout) !== out;
    const stderr = isOn(this.stderr) !== err;
    if (stdout && stderr) return "";
    if (stdout) return "stdout";
    if (stderr) return "stderr";
    return out ? "stderr" : "stdout"; // none would be an empty log
  }

  /** Offer the runs of the process, if it has several. @param {number[]} runs @param {number} chosen */
  showRuns(runs, chosen) {
    this.run.hidden = runs.length < 2 && !chosen;
    const offered = chosen && !runs.includes(chosen) ? [...runs, chosen] : runs;
    const told = offered.join();
    if (this.run.dataset["runs"] !== told && document.activeElement !== this.run) {
      this.run.dataset["runs"] = told;
      fill(this.run, h("option", { value: "0" }, "all runs"), offered.map((run) => h("option", { value: String(run) }, `run ${run}`)));
    }
    this.run.value = String(chosen);
  }

  /** @param {import("../state/place.js").Place} place @param {{wrap: boolean, times: boolean}} look */
  show(place, look) {
    if (document.activeElement !== this.field) this.field.value = place.grep;
    press(this.regex, place.regex);
    press(this.case, place.case);
    press(this.only, place.only);
    this.run.value = String(place.run);
    press(this.stdout, place.stream !== "stderr");
    press(this.stderr, place.stream !== "stdout");
    press(this.wrap, look.wrap);
    press(this.times, look.times);
  }
}

/** @param {string} text @param {string} title @param {() => void} act */
function button(text, title, act) {
  const isSign = !/[a-z]{3}/i.test(text);
  return h("button", { type: "button", title, "aria-label": isSign && title, onclick: act }, text);
}

/** @param {string} text @param {string} title @param {() => void} act */
function toggle(text, title, act) {
  const made = button(text, title, act);
  made.setAttribute("aria-pressed", "false");
  return made;
}

/** @param {HTMLElement} one */
function isOn(one) {
  return one.getAttribute("aria-pressed") === "true";
}

/** @param {HTMLElement} one @param {boolean} isPressed */
function press(one, isPressed) {
  one.setAttribute("aria-pressed", String(isPressed));
}
