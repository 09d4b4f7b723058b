// What is searched for in a log: the daemon finds it, over all of the history.

import { processPath, query, readNdjson } from "../net/api.js";
import { toLine } from "./line.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {{grep: string, regex: boolean, ignoreCase: boolean, stream: string}} Needle */

/**
 * Path of the lines that match.
 *
 * @param {string} ref
 * @param {Needle} needle
 * @param {Record<string, unknown>} range `after`, `before`, `limit`, `since`.
 */
export function matchesPath(ref, needle, range) {
  const options = needle.grep ? { grep: needle.grep, regex: needle.regex, ignore_case: needle.ignoreCase } : {};
  return `${processPath(ref)}/${needle.stream || "output"}${query({ ...range, ...options })}`;
}

/**
 * Read lines that match; gaps are among them.
 *
 * @param {string} ref
 * @param {Needle} needle
 * @param {Record<string, unknown>} range
 * @param {AbortSignal} [signal]
 * @returns {Promise<Line[]>}
 */
export async function readMatches(ref, needle, range, signal) {
  /** @type {Line[]} */
  const found = [];
  await readNdjson(
    matchesPath(ref, needle, range),
    (objects) => {
      for (const told of objects) found.push(toLine(told.id, told));
      return false;
    },
    signal,
  );
  return found;
}

/** The number of the first line that was read at or after a time; 0: there is none. @param {string} ref @param {number} ms */
export async function seqAtTime(ref, ms) {
  const found = await readMatches(ref, { grep: "", regex: false, ignoreCase: false, stream: "" }, { since: Math.round(ms), limit: 1 });
  return found.find((line) => !line.gap)?.seq ?? 0;
}
