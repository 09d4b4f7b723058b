// Where the user is: the query of the URL. A link leads to the same place, and "back" to the one before.

import { Emitter } from "../lib/emitter.js";

/**
 * @typedef {object} Place
 * @property {string} process References of processes, separated by commas; "" for none.
 * @property {string} tag Processes by tag, as key:value; "" for none.
 * @property {string} tab
 * @property {number} seq Line that is marked; 0 for none.
 * @property {string} grep
 * @property {boolean} regex
 * @property {boolean} case Whether case is ignored.
 * @property {boolean} only Whether only matching lines are shown.
 * @property {string} stream "", "stdout" or "stderr".
 * @property {number} run Run whose lines are shown alone; 0 for all.
 * @property {string} q Text of a search, or an SQL query.
 */

const NOWHERE = /** @type {Place} */ ({
  process: "", tag: "", tab: "log", seq: 0, grep: "", regex: false, case: false, only: false, stream: "", run: 0, q: "",
});

export const moved = /** @type {Emitter<Place>} */ (new Emitter());
export let place = read();

/** @returns {Place} */
function read() {
  const given = new URLSearchParams(location.search);
  return {
    process: given.get("p") ?? "",
    tag: given.get("tag") ?? "",
    tab: given.get("tab") ?? NOWHERE.tab,
    seq: numberOf(given.get("seq")),
    grep: given.get("grep") ?? "",
    regex: given.get("regex") === "1",
    case: given.get("case") === "1",
    only: given.get("only") === "1",
    stream: ["stdout", "stderr"].includes(given.get("stream") ?? "") ? String(given.get("stream")) : "",
    run: numberOf(given.get("run")),
    q: given.get("q") ?? "",
  };
}

/** @param {string | null} text */
function numberOf(text) {
  return Math.max(0, Math.trunc(Number(text)) || 0);
}

/** The URL of a place. @param {Partial<Place>} where */
export function href(where) {
  const full = { ...NOWHERE, ...where };
  const found = new URLSearchParams();
  if (full.process) found.set("p", full.process);
  if (full.tag) found.set("tag", full.tag);
  if (full.tab !== NOWHERE.tab) found.set("tab", full.tab);
  if (full.seq) found.set("seq", String(full.seq));
  if (full.grep) found.set("grep", full.grep);
  if (full.regex) found.set("regex", "1");
  if (full.case) found.set("case", "1");
  if (full.only) found.set("only", "1");
  if (full.stream) found.set("stream", full.stream);
  if (full.run) found.set("run", String(full.run));
  if (full.q) found.set("q", full.q);
  const text = found.toString().replaceAll("%40", "@").replaceAll("%2C", ",").replaceAll("%3A", ":");
  return text ? `/?${text}` : "/";
}

/** Go to another place; what is not named of a log is left behind with it. @param {Partial<Place>} where */
export function go(where) {
  arrive({ ...NOWHERE, ...where }, false);
}

/** Change something of this place. @param {Partial<Place>} what @param {{replace?: boolean}} [how] */
export function change(what, how = {}) {
  arrive({ ...place, ...what }, how.replace ?? false);
}

/** @param {Place} next @param {boolean} replaces */
function arrive(next, replaces) {
  const url = href(next);
  if (url === href(place)) return;
  place = next;
  if (replaces) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  moved.emit(place);
}

addEventListener("popstate", () => {
  place = read();
  moved.emit(place);
});

/** Follow links to other places of this page without loading it again. @param {MouseEvent} event */
function onClick(event) {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.pathname !== "/" || link.target) return;
  event.preventDefault();
  if (link.search === location.search) return;
  history.pushState(null, "", link.href);
  place = read();
  moved.emit(place);
}
document.addEventListener("click", onClick);
