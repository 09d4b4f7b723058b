// Which lines are of one run: those that were read from its start to the start of the next.

import { ApiError, callJson, processPath, query } from "../net/api.js";
import { seqAtTime } from "./needle.js";

/** @typedef {{from: number, to: number}} Range Numbers of the first and the last line; `to` Infinity: more may come. */

export const ALL_RUNS = /** @type {Range} */ ({ from: 1, to: Infinity });
export const NO_LINES = /** @type {Range} */ ({ from: 1, to: 0 });

/**
 * The lines of a run.
 *
 * @param {string} ref
 * @param {number} run
 * @param {number} last Number of the last line that is there.
 * @returns {Promise<Range>}
 */
export async function rangeOfRun(ref, run, last) {
  const { runs } = await callJson(`${processPath(ref)}/runs${query({ cursor: run + 2, limit: 2 })}`);
  const one = runs.find((/** @type {any} */ found) => found.run === run);
  if (!one) throw new ApiError(404, "INVALID_REQUEST", `there is no run ${run}`);
  const next = runs.find((/** @type {any} */ found) => found.run === run + 1);
  const from = run === 1 ? 1 : await seqAtTime(ref, one.started_at);
  const behind = next ? await seqAtTime(ref, next.started_at) : 0;
  return { from: from || last + 1, to: behind ? behind - 1 : next ? last : Infinity };
}
