// What one module tells others: listeners that are called in turn.

/** @template T */
export class Emitter {
  constructor() {
    /** @type {Set<(told: T) => void>} */
    this.listeners = new Set();
  }

  /** Call `listener` from now on. Returns what ends it. @param {(told: T) => void} listener */
  on(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @param {T} told */
  emit(told) {
    for (const listener of [...this.listeners]) listener(told);
  }
}
