// The tabs of a process beside its log: events, runs, stats, details.

import { copy, toast } from "../lib/ask.js";
import { fill, h } from "../lib/dom.js";
import { bytes, commandLine, count, day, clock, duration, ending, moment } from "../lib/format.js";
import { callJson, processPath } from "../net/api.js";
import { href } from "../state/place.js";
import { processes, refOf } from "../state/processes.js";
import { purge } from "./actions.js";
import { chart } from "./chart.js";

/** @typedef {import("../state/processes.js").Process} Process */
/** @typedef {import("../state/processes.js").ProcessEvent} ProcessEvent */

const MOST_ROWS = 500;

/** @param {number} ms */
function when(ms) {
  return `${day(ms)} ${clock(ms).slice(0, 8)}`;
}

/** A table. @param {string} name @param {string[]} heads @param {import("../lib/dom.js").Child[][]} rows */
export function table(name, heads, rows) {
  return h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": name }, h("table", null,
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((cell) => h("td", null, cell)))))));
}

/** What a kind of event means for whoever looks: good, bad or nothing. @param {ProcessEvent} event */
function tone(event) {
  if (["failed", "lost", "unhealthy"].includes(event.type)) return "bad";
  if (event.type === "exited") return event.exit_code === 0 ? "" : "bad";
  return event.type === "started" || event.type === "restarted" || event.type === "healthy" ? "good" : "";
}

/** @param {ProcessEvent} event @param {boolean} named */
export function eventRow(event, named) {
  const known = processes.all.get(event.process_id);
  const name = event.name ?? known?.command ?? event.process_id;
  return [
    h("span", { class: "mono" }, when(event.timestamp)),
    h("span", { class: `kind ${tone(event)}` }, event.type),
    named && (known ? h("a", { href: href({ process: refOf(known) }) }, name) : name),
    event.type === "exited" || event.type === "lost" ? ending(event) : "",
    `run ${event.run}, pid ${event.pid}`,
  ].filter((cell) => cell !== false);
}

/** @param {Process} one */
export async function eventsOf(one) {
  const response = await fetch(`/api/v1/events?process=${one.id}&tail=${MOST_ROWS}`, { headers: { Accept: "application/x-ndjson" } });
  const events = (await response.text()).split("\n").filter(Boolean).map((text) => /** @type {ProcessEvent} */ (JSON.parse(text)));
  return events.reverse();
}

/** @param {HTMLElement} host @param {Process} one */
export async function showEvents(host, one) {
  const events = await eventsOf(one);
  fill(host, events.length ? table("Events", ["time", "event", "end", "run"], events.map((event) => eventRow(event, false))) : h("p", { class: "empty" }, "Nothing has happened yet."));
}

/** @param {HTMLElement} host @param {Process} one */
export async function showRuns(host, one) {
  const { runs, next } = await callJson(`${processPath(refOf(one))}/runs?limit=${MOST_ROWS}`);
  const rows = runs.map((/** @type {any} */ run) => [
    `${run.run}`, `${run.pid}`,
    h("span", { class: `kind ${run.status === "running" ? "good" : run.exit_code === 0 ? "" : "bad"}` }, run.status === "running" ? "running" : ending(run)),
    h("span", { class: "mono" }, when(run.started_at)),
    run.ended_at ? h("span", { class: "mono" }, when(run.ended_at)) : "",
    duration((run.ended_at ?? Date.now()) - run.started_at),
    h("span", { class: "buttons" }, h("a", { href: href({ process: refOf(one), run: run.run }) }, "log"), h("a", { href: href({ process: refOf(one), tab: "stats", q: String(run.run) }) }, "stats")),
  ]);
  fill(host, table("Runs", ["run", "pid", "end", "started", "ended", "took", "more"], rows), next && h("p", { class: "hint" }, `The latest ${count(MOST_ROWS)} runs are shown.`));
}

/** @param {HTMLElement} host @param {Process} one @param {string} run Number of a run; "": the current or last one. */
export async function showStats(host, one, run) {
  const stats = await callJson(`${processPath(refOf(one))}/stats${run ? `?run=${encodeURIComponent(run)}` : ""}`);
  const samples = [...stats.history, ...(stats.current ? [stats.current] : [])];
  if (samples.length === 0) {
    fill(host, h("p", { class: "empty" }, `Run ${stats.run} was too short to be measured.`));
    return;
  }
  const times = samples.map((sample) => sample.sampled_at);
  const percent = (/** @type {number} */ value) => `${value.toFixed(1)} %`;
  const whole = (/** @type {number} */ value) => count(Math.round(value));
  fill(host,
    h("p", { class: "hint" }, `Run ${stats.run}, as of ${moment(times.at(-1))}. `, h("button", { type: "button", onclick: () => void showStats(host, one, run) }, "Read again")),
    h("div", { class: "chart-grid" },
      chart("Processor", times, samples.map((sample) => sample.cpu.percent), percent),
      chart("Memory", times, samples.map((sample) => sample.memory.rss_bytes), bytes),
      chart("Processes", times, samples.map((sample) => sample.processes), whole),
      chart("Threads", times, samples.map((sample) => sample.threads), whole),
      samples.some((sample) => sample.open_files !== null) && chart("Open files", times, samples.map((sample) => sample.open_files), whole)));
}

/** What a health check does. @param {any} check */
function checkText(check) {
  if (check.type === "exec") return commandLine(check.command, check.args);
  return `${check.type} on port ${check.port}${check.path ?? ""}`;
}

/** @param {HTMLElement} host @param {Process} one @param {() => void} gone Called when the process was deleted. */
export function showDetails(host, one, gone) {
  const line = commandLine(one.command, one.args);
  /** @type {[string, import("../lib/dom.js").Child][]} */
  const facts = [
    ["Command", h("code", null, line)],
    ["Id", h("code", null, one.id)],
    ["Reference", h("code", null, refOf(one))],
    ["Folder", h("code", null, one.working_dir)],
    ["User", one.user ?? "the daemon's own"],
    ["Tags", Object.entries(one.tags).map(([key, value]) => `${key}:${value}`).join(", ") || "none"],
    ["Output", `${count(one.output.lines)} lines, ${bytes(one.output.bytes)}`],
    ["Started", when(one.started_at)],
    ["Ended", one.ended_at ? `${when(one.ended_at)}: ${ending(one)}` : "no"],
  ];
  if (one.managed) {
    const { restart, health_check: check, last_error: trouble, restart_count: restarts, health_status: status } = one.managed;
    facts.push(["Restarts", `${restart.policy.replace("_", " ")}; ${count(restarts)} so far`]);
    facts.push(["Health", check ? `${status}: ${checkText(check)}` : "no check"]);
    if (trouble) facts.push(["Last error", trouble]);
  }
  const copyLine = async () => {
    await copy(line);
    toast("The command was copied.");
  };
  fill(host,
    h("dl", { class: "facts-list" }, facts.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])),
    h("p", { class: "buttons" },
      h("button", { type: "button", onclick: () => void copyLine() }, "Copy command"),
      h("button", { type: "button", class: "danger", onclick: () => void purge(one, gone) }, "Delete process and output…")));
}
