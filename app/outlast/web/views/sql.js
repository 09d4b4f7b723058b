// SQL over the store: a field, its result, and the views that there are.

import { fill, h } from "../lib/dom.js";
import { count, plural } from "../lib/format.js";
import { callJson } from "../net/api.js";
import { change, href, place } from "../state/place.js";
import { processes, refOf } from "../state/processes.js";
import { table } from "./panels.js";

const ROWS = 1000;
const CELL_CHARACTERS = 2048;
const EXAMPLES = [
  ["What printed most", "SELECT name, command, lines, bytes, status\nFROM processes\nORDER BY bytes DESC\nLIMIT 20"],
  ["What failed of late", "SELECT name, command, ended, exit_code, signal\nFROM processes\nWHERE exit_code <> 0 OR signal IS NOT NULL\nORDER BY ended DESC\nLIMIT 20"],
  ["Lines with a text", "SELECT process_id, seq, time, stream, line\nFROM output_lines\nWHERE line LIKE '%' || :text || '%'\nLIMIT 100"],
];
const VIEWS = "SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name";

/** @typedef {{columns: string[], rows: any[][], truncated: boolean}} Result */

let before = /** @type {Promise<unknown>} */ (Promise.resolve());

/** Run a query when those before it are done: the daemon runs two at a time, for all of its clients. @param {unknown} body @returns {Promise<Result>} */
function ask(body) {
  const asked = before.then(() => callJson("/sql", { method: "POST", body }));
  before = asked.catch(() => {});
  return asked;
}

/** @param {HTMLElement} host */
export function showSql(host) {
  const field = h("textarea", { class: "mono", rows: "7", spellcheck: "false", "aria-label": "SQL query" });
  field.value = place.q || (EXAMPLES[0]?.[1] ?? "");
  const parameters = h("span", { class: "parameters" });
  const message = h("p", { class: "hint", role: "status" });
  const exports = h("span", { class: "buttons" });
  const results = h("div", { class: "results" });
  const views = h("aside", { class: "views", "aria-label": "Views" });
  /** @type {Map<string, HTMLInputElement>} */
  let inputs = new Map();

  const readParameters = () => {
    const names = [...new Set([...withoutTexts(field.value).matchAll(/(?<![\w:]):([A-Za-z_]\w*)/g)].map((match) => match[1] ?? ""))];
    const had = inputs;
    inputs = new Map(names.map((name) => [name, had.get(name) ?? h("input", { name, "aria-label": name, onkeydown: onKey })]));
    fill(parameters, [...inputs].map(([name, one]) => h("label", null, `:${name} `, one)));
  };

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.target instanceof HTMLInputElement)) {
      event.preventDefault();
      void run();
    }
  }
  field.addEventListener("input", readParameters);
  field.addEventListener("keydown", onKey);

  let asked = 0;

  async function run() {
    const mine = ++asked;
    change({ q: field.value }, { replace: true });
    message.textContent = "Running …";
    fill(exports);
    const values = Object.fromEntries([...inputs].map(([name, one]) => [name, one.value]));
    try {
      const began = performance.now();
      const body = { query: field.value, limit: ROWS, ...(inputs.size ? { parameters: values } : {}) };
      const result = await ask(body);
      if (mine !== asked) return;
      message.textContent = `${plural(result.rows.length, "row")}${result.truncated ? ", and more" : ""} · ${count(Math.round(performance.now() - began))} ms`;
      fill(results, table("Result", result.columns, result.rows.map((row) => row.map((value, index) => cell(value, result.columns[index] ?? "")))));
      fill(exports, save("CSV", "text/csv", "csv", () => toCsv(result)), save("JSON", "application/json", "json", () => toJson(result)));
    } catch (error) {
      if (mine !== asked) return;
      fill(results);
      message.textContent = /** @type {Error} */ (error).message;
    }
  }

  const examples = EXAMPLES.map(([title = "", text = ""]) => h("button", { type: "button", onclick: () => {
    field.value = text;
    readParameters();
    field.focus();
  } }, title));
  fill(host, h("div", { class: "sql" },
    h("div", { class: "query-side" }, field,
      h("div", { class: "buttons" }, h("button", { type: "button", class: "main", onclick: () => void run() }, "Run (Ctrl-Enter)"), parameters, ...examples),
      h("div", { class: "result-line" }, message, exports), results),
    views));
  readParameters();
  void showViews(views);
  if (place.q) void run();
  else field.focus();
}

/** A query without its texts, names and comments, in which no parameter is one. @param {string} sql */
function withoutTexts(sql) {
  return sql.replace(/'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\//g, " ");
}

/** @param {HTMLElement} host */
async function showViews(host) {
  try {
    const { rows } = await ask({ query: VIEWS });
    fill(host, h("h2", null, "Views"), rows.map(([view]) => showView(String(view))));
  } catch {
    fill(host);
  }
}

/** A view, whose columns are read when they are asked for. @param {string} view */
function showView(view) {
  const list = h("ul", { class: "mono" });
  const read = async () => {
    if (list.childElementCount > 0) return;
    const { columns } = await ask({ query: `SELECT * FROM "${view}" LIMIT 0` });
    fill(list, columns.map((name) => h("li", null, name)));
  };
  return h("details", { ontoggle: () => void read().catch(() => {}) }, h("summary", { class: "mono" }, view), list);
}

/** @param {any} value @param {string} column */
function cell(value, column) {
  if (value === null) return h("span", { class: "dim" }, "null");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  const shown = text.length > CELL_CHARACTERS ? `${text.slice(0, CELL_CHARACTERS)}…` : text;
  const known = column === "process_id" || column === "id" ? processes.all.get(text) : undefined;
  return known ? h("a", { href: href({ process: refOf(known) }), class: "mono" }, shown) : h("span", { class: "mono" }, shown);
}

/** @param {string} title @param {string} type @param {string} suffix @param {() => string} make */
function save(title, type, suffix, make) {
  return h("button", { type: "button", onclick: () => {
    const url = URL.createObjectURL(new Blob([make()], { type }));
    h("a", { href: url, download: `outlast.${suffix}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } }, title);
}

/** @param {Result} result */
function toCsv({ columns, rows }) {
  const quoted = (/** @type {unknown} */ value) => {
    const text = value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n");
}

/** @param {Result} result */
function toJson({ columns, rows }) {
  return JSON.stringify(rows.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index]]))), null, 1);
}
