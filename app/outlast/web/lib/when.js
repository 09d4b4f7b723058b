// Times as people type them: 10m ago, 09:30, 2026-11-28 09:30:15, or the number of a line.

const UNITS = /** @type {Record<string, number>} */ ({ ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 });
const AGO = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)(?:\s+ago)?$/;
const TIME = /^(?:(\d{4}-\d{2}-\d{2})(?:[ T]|$))?(?:(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?)?$/;

/**
 * What a text means.
 *
 * @param {string} text
 * @param {number} now In milliseconds.
 * @returns {{line: number} | {ms: number} | null} Null: nothing.
 */
export function parseWhen(text, now) {
  const typed = text.trim().toLowerCase();
  const digits = typed.replaceAll(/[,#_]/g, "");
  if (/^\d+$/.test(digits)) return { line: Number(digits) };
  const ago = AGO.exec(typed);
  if (ago) return { ms: now - Number(ago[1]) * (UNITS[ago[2] ?? ""] ?? 0) };
  const time = TIME.exec(typed.toUpperCase());
  if (!typed || !time) return null;
  const at = time[1] ? new Date(`${time[1]}T00:00:00`) : new Date(now);
  at.setHours(Number(time[2] ?? 0), Number(time[3] ?? 0), Number(time[4] ?? 0), Number((time[5] ?? "0").padEnd(3, "0")));
  const ms = at.getTime();
  if (Number.isNaN(ms)) return null;
  return { ms: !time[1] && ms > now ? ms - 86_400_000 : ms };
}
