// A line as the page keeps it.

/**
 * @typedef {object} Line
 * @property {number} seq
 * @property {number} at Time at which it was read, in milliseconds.
 * @property {boolean} err Whether it is of standard error.
 * @property {string} text Without its line break; at most KEPT_CHARACTERS of it.
 * @property {number} length Characters of the whole line.
 * @property {boolean} open Whether its line break is still to come.
 * @property {string} gap Why output is missing here; "" for a line.
 * @property {number[][] | null} spans Matches in it, in code points; null: not known.
 * @property {string} of Id of its process, where several are shown.
 */

export const KEPT_CHARACTERS = 16384;
const LIMIT_CHARACTERS = 1 << 20; // the daemon cuts longer lines, for good

/** Copy the beginning of a long text, so that the whole is not kept for it. @param {string} text */
export function cut(text) {
  return text.length <= KEPT_CHARACTERS ? text : ` ${text.slice(0, KEPT_CHARACTERS)}`.slice(1);
}

/**
 * The line that an object of NDJSON, or the data of an event, tells of.
 *
 * @param {number} seq
 * @param {any} told
 * @returns {Line}
 */
export function toLine(seq, told) {
  const gap = told.gap ?? (told.reason ? told : null);
  if (gap) return { seq, at: told.timestamp ?? 0, err: false, text: "", length: 0, open: false, gap: gap.reason, spans: null, of: told.process_id ?? "" };
  const raw = /** @type {string} */ (told.line);
  const isOpen = !raw.endsWith("\n");
  const whole = isOpen ? raw : raw.slice(0, raw.endsWith("\r\n") ? -2 : -1);
  return {
    seq,
    at: told.timestamp,
    err: told.stream === "stderr",
    text: cut(whole),
    length: whole.length,
    open: isOpen && raw.length < LIMIT_CHARACTERS,
    gap: "",
    spans: told.spans ?? null,
    of: told.process_id ?? "",
  };
}

/** The line that `begun` becomes when its rest comes. @param {Line} begun @param {Line} rest @returns {Line} */
export function joined(begun, rest) {
  return { ...rest, text: cut(begun.text + (begun.length > begun.text.length ? "" : rest.text)), length: begun.length + rest.length };
}
