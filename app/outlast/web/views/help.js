// The keys.

import { show } from "../lib/ask.js";
import { h } from "../lib/dom.js";

const KEYS = [
  ["Ctrl-K", "find a process"], ["/", "search this log"], ["n  N", "next and previous match"], ["e  E", "next and previous line of standard error"],
  ["g  G", "beginning and end"], ["t", "go to a time or a line"], ["f", "follow, or stay here"], ["w", "wrap long lines"],
  ["↑ ↓ PgUp PgDn", "scroll"], ["1 … 5", "Log, Events, Runs, Stats, Details"], ["click on a number", "mark a line: its link is in the address"],
  ["Shift-click on another", "copy the lines between"], ["Ctrl-click on a process", "show several in one list"], ["?", "this help"],
];

export function showHelp() {
  return show("Keys", () => [h("dl", { class: "keys" }, KEYS.flatMap(([key, what]) => [h("dt", null, h("kbd", null, key ?? "")), h("dd", null, what ?? "")]))]);
}
