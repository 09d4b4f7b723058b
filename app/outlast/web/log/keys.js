// The keys of a log.

import { isField } from "../lib/dom.js";

/** @typedef {import("./log_view.js").LogView} LogView */

/** Use a key, if it has a meaning. Returns whether it had. @param {LogView} log @param {KeyboardEvent} event */
export function useKey(log, event) {
  if (isField(event.target) || event.ctrlKey || event.metaKey || event.altKey) return false;
  const { rowPx, viewPx } = log.scroller;
  const page = Math.max(rowPx, viewPx - 2 * rowPx);
  /** @type {Record<string, () => void>} */
  const keys = {
    "/": () => { log.toolbar.field.focus(); log.toolbar.field.select(); },
    n: () => void log.step(false, false),
    N: () => void log.step(true, false),
    e: () => void log.step(false, true),
    E: () => void log.step(true, true),
    g: () => log.showTop(),
    Home: () => log.showTop(),
    G: () => log.follow(true),
    End: () => log.follow(true),
    f: () => log.follow(!log.scroller.isPinned),
    t: () => void log.askWhere(),
    w: () => log.toggleWrap(),
    PageUp: () => log.moveBy(-page),
    PageDown: () => log.moveBy(page),
    ArrowUp: () => log.moveBy(-rowPx),
    ArrowDown: () => log.moveBy(rowPx),
    k: () => log.moveBy(-rowPx),
    j: () => log.moveBy(rowPx),
    " ": () => log.moveBy(event.shiftKey ? -page : page),
  };
  const act = keys[event.key];
  const isOfOther = event.target instanceof Element && event.target.closest("nav, button, a");
  if (!act || (isOfOther && !/^[a-zA-Z/]$/.test(event.key))) return false;
  act();
  return true;
}
