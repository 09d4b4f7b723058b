// Search in the output of all processes.

import { fill, h } from "../lib/dom.js";
import { clock, count, day, plural } from "../lib/format.js";
import { callJson, query } from "../net/api.js";
import { plainText } from "../log/ansi.js";
import { change, href, place } from "../state/place.js";

const PAGE = 100;

/** @param {HTMLElement} host */
export function showSearch(host) {
  const field = h("input", { type: "search", value: place.q, placeholder: "Text in the output of every process", "aria-label": "Search for", class: "wide", spellcheck: "false", autocomplete: "off" });
  const regex = h("input", { type: "checkbox" });
  const ignore = h("input", { type: "checkbox" });
  regex.checked = place.regex;
  ignore.checked = place.case;
  const since = h("select", { "aria-label": "Since" }, [["", "any time"], ["10m", "10 minutes"], ["1h", "an hour"], ["24h", "a day"], ["168h", "a week"]].map(([value = "", text = ""]) => h("option", { value }, text)));
  const message = h("p", { class: "hint", role: "status" });
  const results = h("div", { class: "results" });
  const form = h("form", { class: "query", role: "search", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    change({ q: field.value, regex: regex.checked, case: ignore.checked }, { replace: true });
    void run("");
  } }, field, h("label", { class: "check" }, regex, " regular expression"), h("label", { class: "check" }, ignore, " ignore case"),
  h("label", { class: "check" }, "since ", since), h("button", { type: "submit", class: "main" }, "Search"));
  fill(host, form, message, results);
  let asked = 0;

  /** @param {string} cursor */
  async function run(cursor) {
    const ask = ++asked;
    if (!cursor) fill(results);
    if (!field.value) return;
    message.textContent = "Searching …";
    try {
      const found = await callJson(`/search${query({ q: field.value, regex: regex.checked, ignore_case: ignore.checked, since: since.value, limit: PAGE, cursor })}`);
      if (ask !== asked) return;
      results.append(...found.matches.map(result));
      results.querySelector(".older")?.remove();
      if (found.next) results.append(h("button", { type: "button", class: "older", onclick: () => void run(found.next) }, "Search further back"));
      const total = results.querySelectorAll(".result").length;
      message.textContent = total === 0 && found.complete ? "No line matches." : `${plural(total, "match", "matches")}${found.complete ? "" : " so far: the time ran out"}${found.next ? ", newest first" : ""}.`;
    } catch (error) {
      if (ask === asked) message.textContent = /** @type {Error} */ (error).message;
    }
  }

  field.focus();
  if (place.q) void run("");
}

/** @param {any} one */
function result(one) {
  const process = `@${one.handle}`;
  const where = href({ process, seq: one.seq, grep: place.q, regex: place.regex, case: place.case });
  return h("a", { class: `result${one.stream === "stderr" ? " err" : ""}`, href: where },
    h("span", { class: "who" }, one.name ?? `${one.command} ${process}`),
    h("span", { class: "at mono" }, `${day(one.timestamp)} ${clock(one.timestamp)} · ${count(one.seq)}`),
    h("span", { class: "line mono" }, ...marked(one.line, one.spans ?? [])));
}

/** @param {string} line @param {number[][]} spans */
function marked(line, spans) {
  const characters = [...line];
  const [from = 0, to = 0] = spans[0] ?? [];
  const begin = Math.max(0, from - 80);
  const show = (/** @type {number} */ first, /** @type {number} */ last) => plainText(characters.slice(first, last).join(""));
  return [begin > 0 ? "…" : "", show(begin, from), to > from && h("mark", null, show(from, to)), show(to, to + 300)];
}
