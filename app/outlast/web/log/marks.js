// Where runs begin and end, as marks between the lines of a log.

import { clock, ending } from "../lib/format.js";
import { callJson, processPath } from "../net/api.js";

const MOST_RUNS = 1000;

export class Marks {
  /** @param {string} ref @param {() => void} changed */
  constructor(ref, changed) {
    this.ref = ref;
    this.changed = changed;
    /** @type {{at: number, text: string}[]} Ascending. */
    this.list = [];
    /** @type {number[]} Runs, newest first. */
    this.runs = [];
  }

  async read() {
    try {
      const { runs } = await callJson(`${processPath(this.ref)}/runs?limit=${MOST_RUNS}`);
      this.runs = runs.map((/** @type {any} */ run) => run.run);
      const ascending = [...runs].reverse();
      this.list = ascending.flatMap((run, index) => {
        const before = ascending[index - 1];
        if (!before) return [];
        return [{ at: run.started_at, text: `run ${run.run} · ${clock(run.started_at)} · after ${ending(before)}` }];
      });
      this.changed();
    } catch {
      // A log without marks is still the log.
    }
  }

  /** What lies between two lines; "" for nothing. @param {number} before @param {number} after Times of the lines. */
  between(before, after) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.list[middle]?.at ?? 0) <= before) low = middle + 1;
      else high = middle;
    }
    const first = this.list[low];
    if (!first || first.at > after) return "";
    let last = low;
    while ((this.list[last + 1]?.at ?? Infinity) <= after) last += 1;
    return (last > low ? `${last - low + 1} restarts · ` : "") + (this.list[last]?.text ?? "");
  }
}
