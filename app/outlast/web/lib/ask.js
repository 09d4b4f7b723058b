// Dialogs: the browser's own element, which keeps the focus inside and closes on Esc.

import { fill, h } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * Show a dialog until it is closed.
 *
 * @param {string} title
 * @param {(close: () => void) => Child[]} content
 * @param {string} [kind] More classes.
 * @returns {Promise<void>}
 */
export function show(title, content, kind = "") {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: `ask ${kind}`, "aria-label": title });
    const close = () => dialog.close();
    const head = h("header", null, h("h2", null, title), h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: close }, "✕"));
    fill(dialog, head, ...content(close));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) close();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask before something that cannot be undone. @param {string} title @param {string} sentence @param {string} action @returns {Promise<boolean>} */
export async function confirmed(title, sentence, action) {
  let isConfirmed = false;
  await show(title, (close) => [
    h("p", null, sentence),
    h("footer", null,
      h("button", { type: "button", onclick: close }, "Cancel"),
      h("button", { type: "button", class: "danger", onclick: () => { isConfirmed = true; close(); } }, action)),
  ]);
  return isConfirmed;
}

/** Tell something at the lower edge for some seconds. @param {string} sentence @param {"info" | "trouble"} [kind] */
export function toast(sentence, kind = "info") {
  const host = document.getElementById("toasts");
  if (!host) return;
  const note = h("p", { class: `toast ${kind}` }, sentence);
  host.append(note);
  setTimeout(() => note.remove(), kind === "trouble" ? 8000 : 3000);
}

/** Copy text, also where the page has no secure address. @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { class: "offscreen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
