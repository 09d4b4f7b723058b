// What a terminal would show of a line, as pieces of text with a style. Colours and links are understood; every other
// escape sequence is dropped, and other control characters are shown as pictures. A line begins with no style.

/**
 * @typedef {object} Style
 * @property {number | string | null} fg Index of a colour of 256, or #rrggbb.
 * @property {number | string | null} bg
 * @property {boolean} bold
 * @property {boolean} dim
 * @property {boolean} italic
 * @property {boolean} underline
 * @property {boolean} strike
 * @property {boolean} inverse
 * @property {string} href
 */

/** @typedef {{text: string, at: number, style: Style | null}} Piece `at`: where it begins in the raw line. */

const PLAIN = /** @type {Style} */ (Object.freeze({
  fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false, href: "",
}));
const SPECIAL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const CHANGES = /** @type {Record<number, Partial<Style>>} */ ({
  1: { bold: true }, 2: { dim: true }, 3: { italic: true }, 4: { underline: true }, 7: { inverse: true }, 9: { strike: true },
  22: { bold: false, dim: false }, 23: { italic: false }, 24: { underline: false }, 27: { inverse: false }, 29: { strike: false },
  39: { fg: null }, 49: { bg: null },
});
// CSI, strings (OSC, DCS, SOS, PM, APC) up to their end or that of the line, and other escape sequences.
const SEQUENCE =
  /(?:\u001b\[|\u009b)([0-?]*)[ -/]*([@-~])|\u001b\]([^\u0007\u001b\u009c]*)(?:\u0007|\u001b\\|\u009c|$)|(?:\u001b[PX^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c|$)|\u001b[ -/]*[0-~]?|(?:\u009b)/g;

/** Tell whether a line is shown as it is. @param {string} raw */
export function isPlain(raw) {
  return !SPECIAL.test(raw);
}

/** @param {string} raw @returns {Piece[]} */
export function pieces(raw) {
  if (isPlain(raw)) return raw ? [{ text: raw, at: 0, style: null }] : [];
  const begin = raw.lastIndexOf("\r", raw.length - 2) + 1; // a terminal would write over what is before it
  /** @type {Piece[]} */
  const found = [];
  let style = PLAIN;
  let at = begin;
  SEQUENCE.lastIndex = begin;
  for (let match = SEQUENCE.exec(raw); match; match = SEQUENCE.exec(raw)) {
    push(found, raw.slice(at, match.index), at, style);
    at = match.index + match[0].length;
    if (match[2] === "m") style = sgr(style, match[1] ?? "");
    else if (match[3] !== undefined) style = link(style, match[3]);
    if (match[0].length === 0) break;
  }
  push(found, raw.slice(at), at, style);
  return found;
}

/** What a line looks like, without any style. @param {string} raw */
export function plainText(raw) {
  return pieces(raw).map((piece) => piece.text).join("");
}

/** @param {Piece[]} found @param {string} text @param {number} at @param {Style} style */
function push(found, text, at, style) {
  if (!text) return;
  found.push({ text: harmless(text), at, style: style === PLAIN ? null : style });
}

/** Replace characters one by one, so that places in the text stay the same. @param {string} text */
function harmless(text) {
  if (!SPECIAL.test(text)) return text;
  return text.replace(new RegExp(SPECIAL, "g"), (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** @param {Style} style @param {string} parameters @returns {Style} */
function sgr(style, parameters) {
  if (/[<-?]/.test(parameters)) return style;
  const numbers = parameters.split(/[;:]/).map(Number);
  let next = { ...style };
  for (let index = 0; index < numbers.length; index += 1) {
    const number = numbers[index] ?? 0;
    if (number === 38 || number === 48) {
      const [colour, used] = extended(numbers, index + 1);
      if (number === 38) next.fg = colour;
      else next.bg = colour;
      index += used;
    } else {
      next = simple(next, number);
    }
  }
  return Object.entries(PLAIN).every(([name, value]) => next[/** @type {keyof Style} */ (name)] === value) ? PLAIN : next;
}

/** @param {Style} style @param {number} number @returns {Style} */
function simple(style, number) {
  if (number === 0) return { ...PLAIN, href: style.href };
  if (number >= 30 && number <= 37) return { ...style, fg: number - 30 };
  if (number >= 40 && number <= 47) return { ...style, bg: number - 40 };
  if (number >= 90 && number <= 97) return { ...style, fg: number - 82 };
  if (number >= 100 && number <= 107) return { ...style, bg: number - 92 };
  return { ...style, ...CHANGES[number] };
}

/** Colour of 256 or of all, and how many numbers tell it. @param {number[]} numbers @param {number} at @returns {[number | string | null, number]} */
function extended(numbers, at) {
  if (numbers[at] === 5) return [Math.min(255, numbers[at + 1] ?? 0), 2];
  if (numbers[at] !== 2) return [null, 0];
  const channels = numbers.slice(at + 1, at + 4).map((one) => Math.min(255, one || 0).toString(16).padStart(2, "0"));
  return [`#${channels.join("").padEnd(6, "0")}`, 4];
}

/** A link of OSC 8, to the web only. @param {Style} style @param {string} command @returns {Style} */
function link(style, command) {
  const match = /^8;[^;]*;(.*)$/.exec(command);
  if (!match) return style;
  const href = match[1] ?? "";
  return { ...style, href: /^https?:\/\//i.test(href) ? href : "" };
}

const CUBE = [0, 95, 135, 175, 215, 255];

/** Colour of a style for CSS: the first 16 are the page's own, in light and in dark. @param {number | string} colour */
export function cssColour(colour) {
  if (typeof colour === "string") return colour;
  if (colour < 16) return `var(--ansi-${colour})`;
  if (colour >= 232) {
    const grey = 8 + (colour - 232) * 10;
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const at = colour - 16;
  return `rgb(${CUBE[Math.floor(at / 36)]} ${CUBE[Math.floor(at / 6) % 6]} ${CUBE[at % 6]})`;
}
