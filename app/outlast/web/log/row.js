// The element of one row.

import { clock, count } from "../lib/format.js";
import { cssColour, isPlain, pieces } from "./ansi.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {import("./ansi.js").Style} Style */

const SHOWN_CHARACTERS = 4000;
const MOST_PIECES = 200;
const GAPS = /** @type {Record<string, string>} */ ({
  lost: "output is lost here: nobody can know what was written",
  store_replaced: "output is missing here: the store was replaced by an older copy",
  retention: "older output is gone: retention",
});

/**
 * @typedef {object} RowOptions
 * @property {boolean} times
 * @property {boolean} marked
 * @property {number[][] | null} spans Matches of a search, in code points of the raw line.
 * @property {string} mark Sentence about a run that begins or has ended before this row.
 * @property {{name: string, colour: number} | null} source Its process, where several are shown.
 */

/** The element of a row, without content. */
export function makeRow() {
  const row = document.createElement("div");
  const gutter = document.createElement("span");
  const text = document.createElement("span");
  gutter.className = "gutter";
  text.className = "text";
  row.append(gutter, text);
  return row;
}

/**
 * Fill the element of a row.
 *
 * @param {HTMLElement} row
 * @param {Line | null} line
 * @param {number} seq
 * @param {RowOptions} options
 */
export function fillRow(row, line, seq, options) {
  const gutter = /** @type {HTMLElement} */ (row.firstElementChild);
  const text = /** @type {HTMLElement} */ (gutter.nextElementSibling);
  while (text.nextSibling) text.nextSibling.remove();
  const kind = line === null ? " waiting" : line.gap ? " gap" : line.err ? " err" : "";
  row.className = `row${kind}${options.marked ? " marked" : ""}${options.mark ? " begins" : ""}`;
  row.dataset["seq"] = String(seq);
  const time = line && options.times ? clock(line.at) : "";
  gutter.textContent = `${time}${time ? "  " : ""}${seq > 0 ? seq : ""}`;
  if (options.mark) row.dataset["mark"] = options.mark;
  else delete row.dataset["mark"];
  if (options.source && line) row.append(sourceMark(options.source));
  if (line === null) text.textContent = "";
  else if (line.gap) text.textContent = `── ${GAPS[line.gap] ?? line.gap} ──`;
  else fillText(text, line, options.spans);
}

/** @param {{name: string, colour: number}} source */
function sourceMark(source) {
  const mark = document.createElement("span");
  mark.className = "source";
  mark.textContent = source.name;
  mark.dataset["colour"] = String(source.colour);
  return mark;
}

/** @param {HTMLElement} text @param {Line} line @param {number[][] | null} spans */
function fillText(text, line, spans) {
  const shown = line.text.length > SHOWN_CHARACTERS ? line.text.slice(0, SHOWN_CHARACTERS) : line.text;
  if (!spans?.length && isPlain(shown)) {
    text.textContent = shown;
  } else {
    text.replaceChildren(...styled(shown, toUnits(line.text, spans ?? [])));
  }
  if (line.length > shown.length) {
    const more = document.createElement("button");
    more.className = "more";
    more.type = "button";
    more.textContent = `${count(line.length - shown.length)} more characters`;
    more.dataset["whole"] = String(line.seq);
    text.append(" ", more);
  }
}

/** Places in code points as places in UTF-16. @param {string} text @param {number[][]} spans @returns {[number, number][]} */
function toUnits(text, spans) {
  if (!/[\ud800-\udbff]/.test(text)) return spans.map(([from = 0, to = 0]) => [from, to]);
  /** @type {number[]} */
  const starts = [];
  let at = 0;
  for (const character of text) {
    starts.push(at);
    at += character.length;
  }
  return spans.map(([from = 0, to = 0]) => [starts[from] ?? at, starts[to] ?? at]);
}

/** @param {string} raw @param {[number, number][]} spans @returns {Node[]} */
function styled(raw, spans) {
  /** @type {Node[]} */
  const nodes = [];
  for (const { text, at, style } of pieces(raw)) {
    if (nodes.length >= MOST_PIECES) {
      nodes.push(document.createTextNode(text));
      continue;
    }
    let done = 0;
    for (const [from, to] of spans) {
      const begin = Math.max(from - at, done);
      const end = Math.min(to - at, text.length);
      if (begin >= end) continue;
      if (begin > done) nodes.push(piece(text.slice(done, begin), style, false));
      nodes.push(piece(text.slice(begin, end), style, true));
      done = end;
    }
    if (done < text.length) nodes.push(piece(text.slice(done), style, false));
  }
  return nodes;
}

/** @param {string} text @param {Style | null} style @param {boolean} isMatch @returns {Node} */
function piece(text, style, isMatch) {
  if (!style && !isMatch) return document.createTextNode(text);
  const element = document.createElement(isMatch ? "mark" : style?.href ? "a" : "span");
  element.textContent = text;
  if (!style) return element;
  if (element instanceof HTMLAnchorElement) {
    element.href = style.href;
    element.target = "_blank";
    element.rel = "noopener noreferrer";
  }
  if (!isMatch) wear(element.style, style); // a match has the colours of a match, so that it is seen
  return element;
}

/** @param {CSSStyleDeclaration} css @param {Style} style */
function wear(css, style) {
  const [fg, bg] = style.inverse ? [style.bg ?? "bg", style.fg ?? "fg"] : [style.fg, style.bg];
  if (fg !== null) css.color = fg === "bg" ? "var(--log-bg)" : cssColour(fg);
  if (bg !== null) css.backgroundColor = bg === "fg" ? "var(--text)" : cssColour(bg);
  if (style.bold) css.fontWeight = "700";
  if (style.dim) css.opacity = "0.7";
  if (style.italic) css.fontStyle = "italic";
  css.textDecoration = `${style.underline ? "underline " : ""}${style.strike ? "line-through" : ""}`;
}
