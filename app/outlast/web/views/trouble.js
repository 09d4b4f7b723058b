// Sentences about the daemon: that it does not answer, that it is another version, that something is wrong with it.

import { fill, h, inNextFrame } from "../lib/dom.js";
import { callJson } from "../net/api.js";
import { processes } from "../state/processes.js";

const BUILD = document.querySelector('meta[name="build"]')?.getAttribute("content") ?? "";

export class Trouble {
  constructor() {
    this.element = h("div", { class: "trouble", role: "status" });
    this.isOld = false;
    this.looks = 0;
    /** @type {string[]} */
    this.warnings = [];
    processes.changed.on(() => inNextFrame(this.repaint));
    processes.connected.on(() => void this.look());
  }

  repaint = () => this.paint();

  /** After each connection: another daemon may have answered than the one before. */
  async look() {
    const mine = ++this.looks;
    try {
      const page = await fetch("/", { method: "HEAD", cache: "no-store" });
      const etag = page.headers.get("ETag");
      if (mine !== this.looks) return;
      this.isOld = etag !== null && etag !== `"${BUILD}"`;
      const health = await callJson("/health");
      this.warnings = health.warnings ?? [];
    } catch (error) {
      this.warnings = [/** @type {Error} */ (error).message];
    }
    this.paint();
  }

  paint() {
    const notes = [];
    const { state, error } = processes;
    if (state === "failed" && error?.status === 401) notes.push(note("You are not logged in any more.", "Log in", reload));
    else if (state === "failed") notes.push(note(`The daemon refuses this page: ${error?.message ?? ""}.`, "Try again", () => processes.stream?.retry()));
    else if (state === "waiting") notes.push(note(error?.status ? `The daemon is in trouble: ${error.message}. The page tries again by itself.` : "The daemon does not answer. The page tries again by itself; nothing is lost meanwhile.", "Try now", () => processes.stream?.retry()));
    if (this.isOld) notes.push(note("The daemon is another version than this page.", "Load the page again", reload));
    for (const warning of this.warnings) notes.push(note(warning, "", () => {}));
    fill(this.element, notes);
  }
}

function reload() {
  location.reload();
}

/** @param {string} sentence @param {string} action @param {() => void} act */
function note(sentence, action, act) {
  return h("p", { class: "note" }, h("span", null, sentence), action && h("button", { type: "button", onclick: act }, action));
}
