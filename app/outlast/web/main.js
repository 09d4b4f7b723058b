// The page: what stands where, and what is shown of the place in the URL.

import { fill, h, isField } from "./lib/dom.js";
import { remember, remembered } from "./lib/settings.js";
import { LogView } from "./log/log_view.js";
import { ApiError, callJson, processPath } from "./net/api.js";
import { change, go, href, moved, place } from "./state/place.js";
import { label, processes, refOf } from "./state/processes.js";
import { Header } from "./views/header.js";
import { Sidebar } from "./views/sidebar.js";
import { Trouble } from "./views/trouble.js";

/** @typedef {import("./state/processes.js").Process} Process */

const TABS = ["log", "events", "runs", "stats", "details"];
const THEMES = ["auto", "light", "dark"];

class Page {
  constructor() {
    this.sidebar = new Sidebar();
    this.trouble = new Trouble();
    this.header = new Header();
    this.main = h("main", { id: "main", tabindex: "-1" });
    /** @type {LogView | null} */
    this.log = null;
    /** @type {Process | null} */
    this.process = null;
    this.shown = "";
    this.theme = remembered("theme", "auto");
    this.applyTheme();
    const menu = h("button", { type: "button", class: "menu-button", "aria-label": "Processes", "aria-controls": "sidebar", onclick: () => document.body.classList.toggle("menu") }, "☰");
    const bar = h("header", { class: "bar" }, menu, h("a", { href: "/", class: "brand" }, "Outlast"), h("span", { class: "spacer" }),
      h("a", { href: "/docs", class: "quiet" }, "API"),
      h("button", { type: "button", class: "quiet", onclick: () => this.nextTheme(), title: "Light, dark, or as the system" }, "Theme"),
      h("form", { method: "post", action: "/logout" }, h("button", { type: "submit", class: "quiet" }, "Log out")),
      h("button", { type: "button", class: "quiet", "aria-label": "Keys", onclick: () => void help() }, "?"));
    document.body.append(bar, this.trouble.element, h("div", { class: "columns" }, this.sidebar.element, this.main), h("div", { id: "toasts", role: "status" }));
    moved.on(() => void this.show());
    processes.changed.on(() => this.onProcesses());
    processes.happened.on((event) => this.onEvent(event));
    addEventListener("keydown", (event) => this.onKey(event));
    this.main.addEventListener("click", () => document.body.classList.remove("menu"));
  }

  applyTheme() {
    if (this.theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.theme;
  }

  nextTheme() {
    this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? "auto";
    remember("theme", this.theme);
    this.applyTheme();
    this.log?.histogram.paint();
  }

  /** Show what the place says. */
  async show() {
    const what = [place.process, place.tag, place.tab, place.tab === "stats" ? place.q : ""].join(" ");
    if (what === this.shown && this.log) {
      void this.log.replace();
      return;
    }
    if (what === this.shown && place.tab !== "log") return;
    this.shown = what;
    document.body.classList.remove("menu");
    this.leave();
    const refs = place.process.split(",").filter(Boolean);
    try {
      if (refs.length === 1) await this.showProcess(refs[0] ?? "", what);
      else if (refs.length > 1 || place.tag) this.showSeveral(refs);
      else await this.showEverywhere();
    } catch (error) {
      if (this.shown === what) this.showError(/** @type {Error} */ (error));
    }
  }

  leave() {
    this.log?.close();
    this.log = null;
    this.process = null;
    this.panel = null;
  }

  /** @type {HTMLElement | null} */
  panel = null;

  /** @param {string} ref @param {string} what */
  async showProcess(ref, what) {
    const process = await processes.load(ref);
    if (this.shown !== what) return;
    this.process = process;
    document.title = `${label(process)} · Outlast`;
    this.header.show(process);
    void this.header.showStats(null);
    void this.readStats();
    if (place.tab === "log" || !TABS.includes(place.tab)) {
      this.log = new LogView({ refs: [refOf(process)], tag: "", info: process, failed: (error) => this.showError(error) });
      fill(this.main, this.header.element, this.log.element);
      return;
    }
    this.panel = h("div", { class: "panel" });
    fill(this.main, this.header.element, this.panel);
    await this.fillPanel();
  }

  async fillPanel() {
    const { panel, process } = this;
    if (!panel || !process) return;
    const panels = await import("./views/panels.js");
    if (place.tab === "events") await panels.showEvents(panel, process);
    else if (place.tab === "runs") await panels.showRuns(panel, process);
    else if (place.tab === "stats") await panels.showStats(panel, process, place.q);
    else panels.showDetails(panel, process, () => go({}));
  }

  async readStats() {
    const { process } = this;
    if (!process) return;
    try {
      const stats = await callJson(`${processPath(refOf(process))}/stats`);
      if (this.process?.id === process.id) void this.header.showStats(stats);
    } catch {
      // The head is complete without curves.
    }
  }

  /** @param {string[]} refs */
  showSeveral(refs) {
    document.title = `${place.tag || refs.join(", ")} · Outlast`;
    this.log = new LogView({ refs, tag: place.tag, info: null, failed: (error) => this.showError(error) });
    const names = refs.map((ref) => processes.find(ref)).map((one, index) => (one ? label(one) : refs[index]));
    fill(this.main, h("header", { class: "head" }, h("div", { class: "line" }, h("h1", null, place.tag ? `All with ${place.tag}` : names.join(", ")))), this.log.element);
  }

  async showEverywhere() {
    document.title = "Outlast";
    const panel = h("div", { class: "panel" });
    if (place.tab === "search") (await import("./views/search.js")).showSearch(panel);
    else if (place.tab === "sql") (await import("./views/sql.js")).showSql(panel);
    else if (place.tab === "events") await this.showAllEvents(panel);
    else (await import("./views/start.js")).showStart(panel);
    const titles = /** @type {Record<string, string>} */ ({ search: "Search", sql: "SQL", events: "Events" });
    fill(this.main, h("header", { class: "head" }, h("div", { class: "line" }, h("h1", null, titles[place.tab] ?? "Processes"))), panel);
    /** @type {HTMLElement | null} */ (panel.querySelector("textarea, input"))?.focus();
  }

  /** @param {HTMLElement} panel */
  async showAllEvents(panel) {
    const { eventRow, table } = await import("./views/panels.js");
    const rows = [...processes.events].reverse().map((event) => eventRow(event, true));
    fill(panel, rows.length ? table("Events", ["time", "event", "process", "end", "run"], rows) : h("p", { class: "empty" }, "Nothing has happened yet."));
  }

  /** @param {Error} error */
  showError(error) {
    this.leave();
    const isGone = error instanceof ApiError && error.code === "NOT_FOUND";
    const sentence = isGone ? "There is no such process: it was deleted, or the link is wrong." : error instanceof ApiError ? `The daemon says: ${error.message}.` : `Something is wrong with this page: ${error.message}.`;
    fill(this.main, h("div", { class: "panel" }, h("div", { class: "sorry", role: "alert" }, h("h1", null, isGone ? "It is gone" : "This cannot be shown"), h("p", null, sentence),
      h("p", { class: "buttons" }, h("a", { href: href({}), class: "button" }, "All processes"), h("button", { type: "button", onclick: () => this.again() }, "Try again")))));
  }

  again() {
    this.shown = "";
    void this.show();
  }

  onProcesses() {
    const { process } = this;
    const now = process && processes.all.get(process.id);
    if (!process || !now || now === process) return;
    this.process = now;
    this.header.show(now);
  }

  /** @param {import("./state/processes.js").ProcessEvent} event */
  onEvent(event) {
    const isOfList = !place.process && place.tab === "events";
    if (isOfList && this.main.lastElementChild instanceof HTMLElement) void this.showAllEvents(this.main.lastElementChild);
    if (event.process_id !== this.process?.id) return;
    if (event.type === "purged") {
      this.showError(new ApiError(404, "NOT_FOUND", ""));
      return;
    }
    this.log?.onEvent();
    void this.readStats();
    if (this.panel && place.tab !== "stats") void this.fillPanel().catch(() => {});
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.key === "k" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.sidebar.focus();
    } else if (event.key === "Escape") {
      document.body.classList.remove("menu");
      if (place.seq) change({ seq: 0 }, { replace: true });
    } else if (!isField(event.target) && event.key === "?") {
      void help();
    } else if (!isField(event.target) && /^[1-5]$/.test(event.key) && this.process && !event.ctrlKey && !event.altKey && !event.metaKey) {
      change({ tab: TABS[Number(event.key) - 1] ?? "log", seq: 0, q: "" });
    } else if (this.log?.onKey(event)) {
      event.preventDefault();
    }
  }
}

async function help() {
  await (await import("./views/help.js")).showHelp();
}

const page = new Page();
processes.open();
void page.show();
