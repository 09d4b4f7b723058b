// The list of processes, by a tag or by state, with a field to find one.

import { fill, h, inNextFrame, setText } from "../lib/dom.js";
import { age, count } from "../lib/format.js";
import { remember, remembered } from "../lib/settings.js";
import { href, moved, place } from "../state/place.js";
import { health, healthWord, label, processes, refOf } from "../state/processes.js";

/** @typedef {import("../state/processes.js").Process} Process */

const AGES_MS = 10_000;
const BY_STATE = "";

export class Sidebar {
  constructor() {
    this.by = remembered("group", "project");
    this.field = h("input", {
      type: "search", placeholder: "Find a process  Ctrl-K", "aria-label": "Find a process", spellcheck: "false", autocomplete: "off",
      oninput: () => this.paint(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event),
    });
    this.groupBy = h("select", { "aria-label": "Group by", onchange: () => this.regroup() });
    this.figures = h("span", { class: "figures" });
    this.list = h("div", { class: "processes", onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event) });
    this.element = h("nav", { class: "sidebar", "aria-label": "Processes", id: "sidebar" },
      h("div", { class: "find" }, this.field),
      h("div", { class: "by" }, this.figures, h("label", null, "by ", this.groupBy)),
      this.list,
      h("div", { class: "everywhere" }, ...this.links()));
    /** @type {Map<string, HTMLAnchorElement>} */
    this.items = new Map();
    processes.changed.on(() => inNextFrame(this.repaint));
    moved.on(() => inNextFrame(this.repaint));
    for (const how of ["pointerenter", "focusin"]) this.element.addEventListener(how, () => processes.look());
    setInterval(() => this.showAges(), AGES_MS);
  }

  repaint = () => this.paint();

  links() {
    return [["search", "Search"], ["sql", "SQL"], ["events", "Events"]].map(([tab = "", title = ""]) =>
      h("a", { href: href({ tab }), "data-tab": tab }, title));
  }

  regroup() {
    this.by = this.groupBy.value;
    remember("group", this.by);
    this.paint();
  }

  /** @param {Process} one */
  matches(one) {
    const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tags = Object.entries(one.tags).map(([key, value]) => `${key}:${value}`);
    const text = [label(one), refOf(one), one.command, ...one.args, one.pid, ...tags].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  }

  paint() {
    const all = processes.list();
    const keys = [...new Set(all.flatMap((one) => Object.keys(one.tags)))].sort();
    const by = keys.includes(this.by) ? this.by : BY_STATE;
    fill(this.groupBy, h("option", { value: BY_STATE }, "state"), keys.map((key) => h("option", { value: key }, key)));
    this.groupBy.value = by;
    const shown = all.filter((one) => this.matches(one));
    const running = all.filter((one) => one.status === "running").length;
    this.figures.textContent = processes.isRead ? `${count(running)} running of ${count(all.length)}` : "";
    /** @type {Map<string, Process[]>} */
    const groups = new Map();
    for (const one of shown) {
      const group = by ? (one.tags[by] ?? "") : health(one) === "waiting" || one.status === "running" ? "Running" : "Ended";
      groups.set(group, [...(groups.get(group) ?? []), one]);
    }
    const names = [...groups.keys()].sort((one, other) => (by ? Number(one === "") - Number(other === "") || one.localeCompare(other) : other.localeCompare(one)));
    const chosen = new Set(place.process.split(","));
    const had = this.items;
    this.items = new Map();
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset["id"] : undefined;
    const parts = names.flatMap((name) => [
      h("h2", null, h("span", null, name || `no ${by}`), by && name
        ? h("a", { href: href({ tag: `${by}:${name}` }), title: `Follow all with ${by}:${name} in one list` }, "follow all") : h("span", { class: "dim" }, count(groups.get(name)?.length ?? 0))),
      h("ul", null, (groups.get(name) ?? []).map((one) => h("li", null, this.item(one, had.get(one.id), chosen)))),
    ]);
    fill(this.list, parts, this.rest(shown.length, all.length));
    if (focused) this.items.get(focused)?.focus();
    for (const link of this.element.querySelectorAll("[data-tab]")) {
      const isHere = !place.process && link instanceof HTMLElement && link.dataset["tab"] === place.tab;
      link.toggleAttribute("aria-current", isHere);
      if (isHere) link.setAttribute("aria-current", "page");
    }
  }

  /** @param {number} shown @param {number} all */
  rest(shown, all) {
    if (processes.next) {
      return h("button", { type: "button", class: "older", onclick: () => void processes.readOlder() }, "Show older processes");
    }
    if (!processes.isRead) return h("p", { class: "hint" }, processes.error ? "" : "Reading the list …");
    if (all === 0) return h("p", { class: "hint" }, "There are no processes yet.");
    if (shown === 0) return h("p", { class: "hint" }, "No process matches.");
    return null;
  }

  /** @param {Process} one @param {HTMLAnchorElement | undefined} had @param {Set<string>} chosen */
  item(one, had, chosen) {
    const tab = place.process && !["search", "sql"].includes(place.tab) ? place.tab : "log";
    const isHere = chosen.has(refOf(one)) || (one.name !== null && chosen.has(one.name)) || chosen.has(one.id);
    const [since, what] = quietSince(one);
    const key = [health(one), label(one), since, isHere, tab, one.run].join();
    if (had && had.dataset["key"] === key) {
      this.items.set(one.id, had);
      return had;
    }
    const made = h("a", {
      href: href({ process: refOf(one), tab }), class: "process", "data-id": one.id, "data-key": key, "aria-current": isHere ? "page" : null,
      title: `${label(one)}: ${healthWord(one)}`,
      onclick: (/** @type {MouseEvent} */ event) => this.onClick(event, one),
    },
    h("span", { class: `dot ${health(one)}`, role: "img", "aria-label": healthWord(one) }),
    h("span", { class: "name" }, label(one)),
    h("time", { title: what }, age(Date.now() - since)));
    this.items.set(one.id, made);
    return made;
  }

  /** Ctrl-click chooses several. @param {MouseEvent} event @param {Process} one */
  onClick(event, one) {
    if (!(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const chosen = new Set(place.process.split(",").filter(Boolean));
    if (!chosen.delete(refOf(one))) chosen.add(refOf(one));
    history.pushState(null, "", href({ process: [...chosen].join(",") }));
    dispatchEvent(new PopStateEvent("popstate"));
  }

  showAges() {
    for (const [id, item] of this.items) {
      const one = processes.all.get(id);
      if (!one || !item.lastElementChild) continue;
      const [since, what] = quietSince(one);
      setText(item.lastElementChild, age(Date.now() - since));
      item.lastElementChild.setAttribute("title", what);
    }
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (!["ArrowDown", "ArrowUp", "Enter", "Escape"].includes(event.key)) return;
    const items = [...this.items.values()];
    const at = items.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    if (event.key === "Escape") {
      this.field.value = "";
      this.paint();
      document.querySelector(/** @type {"main"} */ ("main"))?.focus();
    } else if (event.key === "Enter") {
      if (at >= 0) return;
      items[0]?.click();
    } else {
      const next = at + (event.key === "ArrowDown" ? 1 : -1);
      if (next < 0) this.field.focus();
      else items[Math.min(next, items.length - 1)]?.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  focus() {
    document.body.classList.add("menu");
    this.field.focus();
    this.field.select();
  }
}

/** When a process printed last, or else started, and what that time is. @param {Process} one @returns {[number, string]} */
function quietSince(one) {
  return one.output.last_at ? [one.output.last_at, "since its last output"] : [one.started_at, "since its start: it has printed nothing"];
}
