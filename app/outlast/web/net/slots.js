// Which windows of this page hold streams. A browser opens six connections to a server, for all its windows together,
// and a window needs two: the two windows that were used last are live, and the others rest until they are used again.

import { Emitter } from "../lib/emitter.js";

const SLOTS = ["outlast-live-0", "outlast-live-1"];
const changed = /** @type {Emitter<void>} */ (new Emitter());

/** @type {string | null} */
let held = null;
let isTaking = false;
/** @type {(() => void) | null} */
let letGo = null;
const locks = /** @type {LockManager | undefined} */ (navigator.locks); // missing on plain HTTP to another machine

/** Whether this window may hold streams now. */
export function isLive() {
  return document.visibilityState === "visible" && (locks === undefined || held !== null);
}

/** Whether other windows have taken the connections of this one. */
export function isResting() {
  return document.visibilityState === "visible" && !isLive() && !isTaking;
}

/** @param {() => void} listener */
export function onLiveChange(listener) {
  return changed.on(listener);
}

/** When a slot was used last. @param {string} slot */
function usedAt(slot) {
  return Number(localStorage.getItem(slot) ?? 0);
}

function touch() {
  if (held) localStorage.setItem(held, String(Date.now()));
}

/** Hold a slot: a free one, or that of the window that was used least recently. */
export async function takeSlot() {
  if (!locks || held || isTaking || document.visibilityState !== "visible") return;
  isTaking = true;
  const free = await freeSlots(locks);
  const slot = free[0] ?? [...SLOTS].sort((one, other) => usedAt(one) - usedAt(other))[0] ?? "";
  const options = free.length > 0 ? {} : { steal: true };
  const untilLetGo = new Promise((resolve) => (letGo = () => resolve(undefined)));
  locks
    .request(slot, options, () => {
      held = slot;
      isTaking = false;
      touch();
      changed.emit();
      return untilLetGo;
    })
    .catch(() => {})
    .finally(() => {
      if (held === slot) held = null;
      isTaking = false;
      changed.emit();
    });
}

/** @param {LockManager} manager */
async function freeSlots(manager) {
  const { held: taken } = await manager.query();
  const names = new Set((taken ?? []).map((lock) => lock.name));
  return SLOTS.filter((slot) => !names.has(slot));
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") void takeSlot();
  else if (held) letGo?.();
  changed.emit();
});
for (const use of ["focus", "pointerdown", "keydown"]) {
  addEventListener(use, () => (held ? touch() : void takeSlot()), { capture: true, passive: true });
}
void takeSlot();
