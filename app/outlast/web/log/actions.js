// What one does with lines: go to one, see a long one whole, copy some, download all.

import { copy, show, toast } from "../lib/ask.js";
import { h } from "../lib/dom.js";
import { bytes, count, plural } from "../lib/format.js";
import { parseWhen } from "../lib/when.js";
import { API, call, processPath, query } from "../net/api.js";
import { plainText } from "./ansi.js";
import { matchesPath, readMatches, seqAtTime } from "./needle.js";

const PART_CHARACTERS = 20000;
const MOST_COPIED = 50000;
const EVERYTHING = { grep: "", regex: false, ignoreCase: false, stream: "" };

/** Ask where to go, and go there. @param {string} ref @param {(seq: number) => void} go */
export async function askWhere(ref, go) {
  await show("Go to", (close) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const field = h("input", { name: "where", placeholder: "10m ago, 09:30, 2026-11-28 09:30, 120431", "aria-label": "Time or number of a line", autofocus: true, autocomplete: "off" });
    const form = h("form", { onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      const where = parseWhen(field.value, Date.now());
      if (!where) {
        wrong.textContent = "That is neither a time nor the number of a line.";
        return;
      }
      try {
        const seq = "line" in where ? where.line : await seqAtTime(ref, where.ms);
        close();
        if (seq === 0) toast("Nothing was printed since then: this is the end.");
        go(seq || Infinity);
      } catch (error) {
        wrong.textContent = /** @type {Error} */ (error).message;
      }
    } }, field, wrong, h("footer", null, h("button", { type: "submit", class: "main" }, "Go")));
    return [form, h("p", { class: "hint" }, "A duration, a time of today or the last night, a date, or a line.")];
  }, "small");
}

/** Show a line whole. @param {string} ref @param {number} seq */
export async function showWhole(ref, seq) {
  const path = `${processPath(ref)}/output${query({ after: seq > 1 ? seq - 1 : null, limit: 1 })}`;
  const response = await call(path, { headers: { Accept: "application/x-ndjson" } });
  const told = (await response.text()).split("\n").filter(Boolean).map((text) => JSON.parse(text)).find((one) => one.line !== undefined);
  const text = /** @type {string} */ (told?.line ?? "").replace(/\r?\n$/, "");
  /** @type {HTMLElement[]} */
  const parts = [];
  for (let at = 0; at < text.length; at += PART_CHARACTERS) {
    parts.push(h("span", { class: "part" }, plainText(text.slice(at, at + PART_CHARACTERS))));
  }
  await show(`Line ${count(seq)}`, () => [
    h("p", { class: "hint" }, `${plural(text.length, "character")} · ${bytes(new Blob([text]).size)} `,
      h("button", { type: "button", onclick: () => void copied(text, "The line") }, "Copy")),
    h("pre", { class: "whole", tabindex: "0" }, parts),
  ], "large");
}

/** @param {string} text @param {string} what */
async function copied(text, what) {
  try {
    await copy(text);
    toast(`${what} was copied.`);
  } catch {
    toast("The browser did not permit to copy.", "trouble");
  }
}

/** Copy lines, from one number to another, without times and numbers. @param {string} ref @param {number} from @param {number} to */
export async function copyLines(ref, from, to) {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  const lines = await readMatches(ref, EVERYTHING, { after: first > 1 ? first - 1 : null, before: last + 1, limit: MOST_COPIED });
  const text = lines.filter((line) => !line.gap).map((line) => `${plainText(line.text)}\n`).join("");
  await copied(text, plural(lines.length, "line"));
}

/** Offer the output as files. @param {string} ref @param {import("./needle.js").Needle} needle */
export async function askSave(ref, needle) {
  const name = ref.replace(/^@/, "process-");
  /** @param {string} title @param {string} path @param {string} accept @param {string} file */
  const entry = (title, path, accept, file) =>
    h("li", null, h("button", { type: "button", onclick: () => void save(path, accept, file) }, title));
  await show("Download", () => [
    h("ul", { class: "choices" },
      entry("Exact bytes", `${processPath(ref)}/output`, "application/octet-stream", `${name}.log`),
      entry("NDJSON: each line with its time and stream", `${processPath(ref)}/output`, "application/x-ndjson", `${name}.ndjson`),
      (needle.grep || needle.stream) && entry("Only what matches", matchesPath(ref, needle, {}), "application/octet-stream", `${name}-matches.log`)),
  ], "small");
}

/** @param {string} path @param {string} accept @param {string} name */
async function save(path, accept, name) {
  try {
    const response = await fetch(API + path, { headers: { Accept: accept } });
    const url = URL.createObjectURL(await response.blob());
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch {
    toast("The download broke off: the daemon does not answer.", "trouble");
  }
}
