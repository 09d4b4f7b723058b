// What one does with a process: restart, stop, signal, write to its standard input, purge.

import { confirmed, show, toast } from "../lib/ask.js";
import { h } from "../lib/dom.js";
import { call, callJson, processPath } from "../net/api.js";
import { label, processes, refOf } from "../state/processes.js";

/** @typedef {import("../state/processes.js").Process} Process */

const GRACE_MS = 10_000;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGQUIT", "SIGKILL"];

/** Do something, and tell what came of it. @param {() => Promise<unknown>} act @param {string} done */
async function attempt(act, done) {
  try {
    await act();
    toast(done);
    return true;
  } catch (error) {
    toast(`${/** @type {Error} */ (error).message}`, "trouble");
    return false;
  }
}

/** @param {Process} one */
export async function restart(one) {
  const isSure = one.status !== "running" || (await confirmed(`Restart ${label(one)}?`, "It is stopped in order, and started again.", "Restart"));
  if (isSure) await attempt(() => callJson(`${processPath(refOf(one))}/restart`, { method: "POST" }), `${label(one)} was restarted.`);
}

/** @param {Process} one */
export async function stop(one) {
  const how = one.managed ? "It gets its stop signal and, after its grace period, SIGKILL. It is not restarted." : "It and all that it started get its stop signal and, after ten seconds, SIGKILL.";
  if (!(await confirmed(`Stop ${label(one)}?`, how, "Stop"))) return;
  const grace = one.managed ? "" : `?grace_ms=${GRACE_MS}`;
  await attempt(() => callJson(`${processPath(refOf(one))}${grace}`, { method: "DELETE" }), `${label(one)} was stopped.`);
  processes.refresh(one.id);
}

/** @param {Process} one */
export async function signal(one) {
  await show(`Signal to ${label(one)}`, (close) => {
    const send = (/** @type {string} */ name) => async () => {
      close();
      await attempt(() => callJson(`${processPath(refOf(one))}/signal`, { method: "POST", body: { signal: name } }), `${name} was sent.`);
    };
    return [h("ul", { class: "signals" }, SIGNALS.map((name) => h("li", null, h("button", { type: "button", class: name === "SIGKILL" ? "danger" : "", onclick: send(name) }, name))))];
  }, "small");
}

/** @param {Process} one */
export async function input(one) {
  await show(`Standard input of ${label(one)}`, (close) => {
    const field = h("textarea", { rows: "4", "aria-label": "Text to write", spellcheck: "false", autofocus: true });
    const ends = h("input", { type: "checkbox", checked: true });
    const write = async () => {
      const text = field.value + (ends.checked ? "\n" : "");
      const bytes = new TextEncoder().encode(text);
      const isDone = await attempt(() => call(`${processPath(refOf(one))}/stdin`, { method: "POST", body: bytes, headers: { "Content-Type": "application/octet-stream" } }), "It was written.");
      if (isDone) field.value = "";
      field.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void write();
    });
    const end = async () => {
      close();
      await attempt(() => callJson(`${processPath(refOf(one))}/stdin/close`, { method: "POST" }), "Standard input is closed.");
      processes.refresh(one.id);
    };
    return [field, h("label", { class: "check" }, ends, " end with a line break"),
      h("footer", null, h("button", { type: "button", onclick: end }, "Close standard input"), h("button", { type: "button", class: "main", onclick: write }, "Write (Ctrl-Enter)"))];
  });
}

/** @param {Process} one @param {() => void} gone */
export async function purge(one, gone) {
  if (!(await confirmed(`Delete ${label(one)}?`, "It is killed if it runs. Its record and all of its output are deleted. This cannot be undone.", "Delete"))) return;
  if (await attempt(() => callJson(`${processPath(refOf(one))}?purge=true`, { method: "DELETE" }), `${label(one)} was deleted.`)) gone();
}
