// Numbers, times and sizes as people read them.

const GROUPED = new Intl.NumberFormat("en");
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @param {number} number */
export function count(number) {
  return GROUPED.format(number);
}

/** @param {number} number @param {string} one @param {string} [many] */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** @param {number} number @param {number} width */
function padded(number, width) {
  return String(number).padStart(width, "0");
}

/** Time of day, to the millisecond. @param {number} ms */
export function clock(ms) {
  const at = new Date(ms);
  return `${padded(at.getHours(), 2)}:${padded(at.getMinutes(), 2)}:${padded(at.getSeconds(), 2)}.${padded(at.getMilliseconds(), 3)}`;
}

/** Day, as 2026-11-28. @param {number} ms */
export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${padded(at.getMonth() + 1, 2)}-${padded(at.getDate(), 2)}`;
}

/** Time of day to the second, with the day unless it is today. @param {number} ms */
export function moment(ms) {
  const time = clock(ms).slice(0, 8);
  return day(ms) === day(Date.now()) ? time : `${day(ms)} ${time}`;
}

/** Duration in its two largest units. @param {number} ms */
export function duration(ms) {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < MINUTE) return `${(ms / SECOND).toFixed(ms < 10 * SECOND ? 1 : 0)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ${Math.floor((ms % MINUTE) / SECOND)} s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ${Math.floor((ms % HOUR) / MINUTE)} min`;
  return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / HOUR)} h`;
}

/** Age in one unit, as 5m. @param {number} ms */
export function age(ms) {
  if (ms < MINUTE) return `${Math.max(0, Math.floor(ms / SECOND))}s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)}m`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)}h`;
  return `${Math.floor(ms / DAY)}d`;
}

/** Size in bytes, with three digits. @param {number} size */
export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

const SIGNALS = /** @type {Record<number, string>} */ ({
  1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
  9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
  18: "SIGCONT", 19: "SIGSTOP", 24: "SIGXCPU", 25: "SIGXFSZ",
});

/** @param {number} number */
export function signalName(number) {
  return SIGNALS[number] ?? `signal ${number}`;
}

/**
 * How a run ended, in a few words.
 *
 * @param {{reason?: string | null, exit_code?: number | null, signal?: number | null, status?: string}} run
 */
export function ending(run) {
  if (run.reason === "lost") return "lost";
  if (run.reason === "timed_out") return "timed out";
  if (run.reason === "oom_killed") return "out of memory";
  if (run.signal) return signalName(run.signal);
  if (run.exit_code !== null && run.exit_code !== undefined) return `exit ${run.exit_code}`;
  return run.status ?? "ended";
}

/** A command line for people: arguments with blanks are quoted. @param {string} command @param {string[]} args */
export function commandLine(command, args) {
  return [command, ...args].map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(" ");
}
