// What is shown while no process is chosen.

import { fill, h } from "../lib/dom.js";
import { count, ending, moment } from "../lib/format.js";
import { href } from "../state/place.js";
import { health, label, processes, refOf } from "../state/processes.js";
import { table } from "./panels.js";

const SHOWN = 50;

/** @param {HTMLElement} host */
export function showStart(host) {
  const paint = () => {
    if (host.isConnected || host.childElementCount === 0) fill(host, content());
    else forget();
  };
  const forget = processes.changed.on(paint);
  paint();
}

function content() {
  if (!processes.isRead) return h("p", { class: "empty" }, "Reading the list of processes …");
  const all = processes.list();
  if (all.length === 0) return welcome();
  const rows = all.slice(0, SHOWN).map((one) => [
    h("span", { class: `dot ${health(one)}`, role: "img", "aria-label": health(one) }),
    h("a", { href: href({ process: refOf(one) }) }, label(one)),
    one.status === "running" ? "running" : ending(one),
    h("span", { class: "mono" }, moment(one.ended_at ?? one.started_at)),
    h("span", { class: "number" }, count(one.output.lines)),
    h("span", { class: "mono cut" }, [one.command, ...one.args].join(" ")),
  ]);
  return [table("Processes", ["is", "process", "state", "since", "lines", "command"], rows), all.length > SHOWN && h("p", { class: "hint" }, `The newest ${SHOWN} of ${count(all.length)}. All are in the list at the left.`)];
}

function welcome() {
  const command = `curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\\n     -d '{"command": "sh", "args": ["-c", "echo hello; sleep 60"]}' \\\n     ${location.origin}/api/v1/processes`;
  return h("div", { class: "sorry" }, h("h2", null, "There are no processes yet"), h("p", null, "Start one, and it appears here by itself:"), h("pre", { class: "mono", tabindex: "0" }, command));
}
