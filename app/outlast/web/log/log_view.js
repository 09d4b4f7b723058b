// The log of one process, or of several: rows, stream, search, and what is around them.

import { toast } from "../lib/ask.js";
import { setText } from "../lib/dom.js";
import { remember, remembered } from "../lib/settings.js";
import { ApiError } from "../net/api.js";
import { change, go, place } from "../state/place.js";
import { processes } from "../state/processes.js";
import { AllLines, PAGE_LINES } from "./all_lines.js";
import { followOne, followSeveral } from "./feed.js";
import { Frame } from "./frame.js";
import { Highlights } from "./highlights.js";
import { Histogram } from "./histogram.js";
import { useKey } from "./keys.js";
import { Marks } from "./marks.js";
import { MatchingLines } from "./matching_lines.js";
import { readMatches, seqAtTime } from "./needle.js";
import { fillRow } from "./row.js";
import { Scroller } from "./scroller.js";
import { SeveralLines } from "./several_lines.js";
import { Toolbar } from "./toolbar.js";

/** @typedef {import("./line.js").Line} Line */
/** @typedef {AllLines | MatchingLines | SeveralLines} Lines */

const SOURCE_COLOURS = 8;

export class LogView {
  /**
   * @param {object} options
   * @param {string[]} options.refs One process, or several.
   * @param {string} options.tag Processes by tag, instead.
   * @param {{id: string, output: {first_seq: number, last_seq: number}} | null} options.info The process, if it is one.
   * @param {(error: Error) => void} options.failed Told of what this view cannot go on after.
   */
  constructor(options) {
    this.options = options;
    this.ref = options.info ? (options.refs[0] ?? "") : "";
    this.look = { wrap: remembered("wrap", false), times: remembered("times", true) };
    /** @type {Map<string, {name: string, colour: number}>} */
    this.sources = new Map();
    this.newLines = 0;
    this.marked = place.seq;
    this.lastMarked = 0;
    this.state = "connecting";
    this.trouble = "";
    this.isClosed = false;
    this.isRead = false;
    this.topSeq = 0;
    this.bottom = 0;
    /** @type {import("./feed.js").Feed | null} */
    this.feed = null;
    this.toolbar = new Toolbar({
      isSingle: this.ref !== "",
      search: (grep) => this.search({ grep }),
      toggle: (name, grep) => this.search({ grep, [name]: !place[name] }),
      stream: (stream) => change({ stream, seq: 0 }),
      run: (run) => {
        change({ run, seq: 0 });
        this.host.focus();
      },
      step: (backwards) => void this.step(backwards, false),
      wrap: () => this.toggleWrap(),
      times: () => this.toggleTimes(),
      jump: () => void this.askWhere(),
      save: () => void actions().then(({ askSave }) => askSave(this.ref, needleOf())),
    });
    this.histogram = new Histogram(this.ref, (ms) => void this.showTime(ms));
    this.frame = new Frame(this.toolbar.element, this.ref ? this.histogram : null, () => this.follow(true));
    this.host = this.frame.host;
    this.element = this.frame.element;
    /** @type {Lines} */
    this.lines = this.open();
    this.scroller = new Scroller({
      host: this.host,
      count: () => this.lines.count,
      fill: (row, index) => this.fillRow(row, index),
      shown: (first, last) => this.onShown(first, last),
      scrolled: (up) => this.onScrolled(up),
    });
    this.highlights = new Highlights(this.ref, () => this.scroller.refresh(), (error) => this.onFailed(error));
    this.marks = new Marks(this.ref, () => {
      this.toolbar.showRuns(this.marks.runs, place.run);
      this.scroller.refresh();
    });
    this.scroller.setWrap(this.look.wrap);
    this.host.addEventListener("wheel", (event) => { if (event.deltaY < 0 && this.host.scrollTop > 0) this.follow(false); }, { passive: true });
    this.host.addEventListener("click", (event) => void this.onClick(event));
    this.onSelect = () => {
      const selection = document.getSelection();
      if (selection && !selection.isCollapsed && this.host.contains(selection.anchorNode)) this.follow(false);
    };
    document.addEventListener("selectionchange", this.onSelect);
    this.timer = setInterval(() => this.showFoot(), 1000); // the rate falls while nothing comes
    void this.begin();
  }

  /** Rows that the place asks for. @returns {Lines} */
  open() {
    const { info } = this.options;
    if (!info) return new SeveralLines();
    if ((place.only && place.grep) || place.stream || place.run) return new MatchingLines(this.ref, needleOf(), info.output.last_seq, place.run);
    return new AllLines(this.ref, info.output);
  }

  /** Read the end of what is stored, then follow. */
  async begin() {
    this.listen();
    this.toolbar.show(place, this.look);
    this.showFoot();
    if (this.lines instanceof AllLines) {
      if (this.lines.last > 0) await this.lines.read(Math.floor((this.lines.last - 1) / PAGE_LINES));
    } else if (this.lines instanceof MatchingLines) {
      await this.lines.open();
    }
    if (this.isClosed) return;
    this.isRead = true;
    this.highlights.search(place.grep && !place.only ? needleOf() : null);
    if (this.marked) this.showSeq(this.marked);
    /** @type {import("./feed.js").FeedOptions} */
    const options = {
      take: (lines) => this.take(lines),
      tell: (state, error) => this.tell(state, error),
      joined: (told) => this.onJoined(told),
    };
    this.feed = this.ref ? followOne(this.ref, this.lines.last, options) : followSeveral(this.options.refs, this.options.tag, options);
    this.scroller.refresh();
    if (this.ref) {
      void this.marks.read();
      void this.histogram.read();
    }
  }

  listen() {
    const lines = this.lines;
    lines.changed.on(({ moved }) => {
      if (lines === this.lines) this.onChanged(moved);
    });
    lines.failed.on((error) => {
      if (lines === this.lines) this.onFailed(error);
    });
  }

  /** The place has changed: the same log, perhaps otherwise. */
  async replace() {
    const before = this.lines;
    const next = this.open();
    const isSame = next.constructor === before.constructor && !(next instanceof MatchingLines && !isSameChoice(/** @type {MatchingLines} */ (before), next));
    this.marked = place.seq;
    this.toolbar.show(place, this.look);
    setText(this.toolbar.message, "");
    if (isSame) {
      this.highlights.search(place.grep && !place.only ? needleOf() : null);
      if (place.seq) this.showSeq(place.seq);
      this.scroller.refresh();
      return;
    }
    this.feed?.close();
    before.close();
    const info = this.options.info;
    if (info) info.output.last_seq = Math.max(info.output.last_seq, before.last);
    this.lines = this.open();
    this.newLines = 0;
    this.scroller.isPinned = !this.marked;
    await this.begin();
  }

  // ---- rows

  /** @param {HTMLElement} row @param {number} index */
  fillRow(row, index) {
    const line = this.lines.at(index);
    const seq = this.lines.seqAt(index);
    const before = line && index > 0 ? this.lines.at(index - 1) : null;
    const mark = line && before ? this.marks.between(before.at, line.at) : "";
    fillRow(row, line, this.ref ? seq : 0, {
      times: this.look.times,
      marked: this.marked > 0 && seq >= Math.min(this.marked, this.lastMarked || this.marked) && seq <= Math.max(this.marked, this.lastMarked),
      spans: line ? (line.spans ?? this.highlights.of(seq)) : null,
      mark,
      source: line && !this.ref ? (this.sources.get(line.of) ?? null) : null,
    });
  }

  /** @param {boolean} moved */
  onChanged(moved) {
    if (moved && !this.scroller.isPinned) this.scroller.index = this.lines.indexOf(this.topSeq);
    this.scroller.refresh(moved);
    this.showFoot();
  }

  /** @param {number} first @param {number} last */
  onShown(first, last) {
    this.topSeq = this.lines.seqAt(first);
    this.bottom = last;
    this.lines.need(first, last);
    if (this.lines instanceof AllLines) this.highlights.look(this.lines.seqAt(first), this.lines.seqAt(last));
    this.showFoot();
  }

  /** @param {boolean} up */
  onScrolled(up) {
    const fits = Math.floor(this.scroller.viewPx / this.scroller.rowPx);
    const atEnd = this.scroller.index + fits >= this.lines.count;
    if (up || !atEnd) this.follow(false);
    else this.follow(true);
  }

  // ---- following

  /** Stay at the end, or where the user is. @param {boolean} follows */
  follow(follows) {
    if (follows) {
      this.newLines = 0;
      this.scroller.pin();
    } else {
      this.scroller.isPinned = false;
    }
    this.showFoot();
  }

  /** @param {Line[]} lines */
  take(lines) {
    if (!this.scroller.isPinned) this.newLines += lines.length;
    this.lines.append(lines);
    const { info } = this.options;
    for (const { of, at } of info ? lines.slice(-1) : lines) processes.printed(info ? info.id : of, at);
    if (this.ref) void this.histogram.read();
  }

  /** @param {{processes: {process_id: string, name: string | null, handle: number}[]}} told */
  onJoined(told) {
    for (const { process_id: id, name, handle } of told.processes) {
      if (!this.sources.has(id)) this.sources.set(id, { name: name ?? `@${handle}`, colour: this.sources.size % SOURCE_COLOURS });
    }
    this.scroller.refresh();
  }

  /** @param {string} state @param {ApiError | null} error */
  tell(state, error) {
    this.state = state;
    this.trouble = "";
    if (state === "failed" && error) this.onFailed(error);
    else if (state === "waiting" && error && error.status > 0) this.trouble = error.message;
    this.showFoot();
  }

  /** @param {Error} error */
  onFailed(error) {
    if (error instanceof ApiError && error.code === "INVALID_REQUEST") setText(this.toolbar.message, error.message);
    else if (!(error instanceof ApiError) || !error.isPassing) this.options.failed(error);
    else toast(`${error.message}: the page tries again`, "trouble");
  }

  /** A run has begun or ended. */
  onEvent() {
    this.lines.endRun();
    if (this.ref) void this.marks.read();
    if (this.feed && this.state === "over") this.feed.stream.retry();
  }

  // ---- places

  /** @param {number} seq Infinity: the end. */
  showSeq(seq) {
    if (seq === Infinity) {
      this.follow(true);
      return;
    }
    this.follow(false);
    this.scroller.show(this.lines.indexOf(seq), "middle");
    this.scroller.refresh();
  }

  /** @param {number} ms */
  async showTime(ms) {
    try {
      this.showSeq((await seqAtTime(this.ref, ms)) || Infinity);
    } catch (error) {
      this.onFailed(/** @type {Error} */ (error));
    }
  }

  async askWhere() {
    const { askWhere } = await actions();
    await askWhere(this.ref, (seq) => {
      if (seq === Infinity) this.showSeq(seq);
      else change({ seq });
    });
    this.host.focus();
  }

  /** @param {Partial<import("../state/place.js").Place>} what */
  search(what) {
    change({ ...what, seq: 0 }, { replace: true });
  }

  /** Go to the next match, or the next line of standard error. @param {boolean} backwards @param {boolean} errors */
  async step(backwards, errors) {
    if (!this.ref || (!errors && !place.grep)) return;
    const needle = errors ? { grep: "", regex: false, ignoreCase: false, stream: "stderr" } : needleOf();
    const from = this.marked || (backwards ? this.topSeq : Math.max(0, this.topSeq - 1));
    try {
      const range = backwards ? { before: Math.max(1, from), limit: 1 } : { after: from || null, limit: 1 };
      const found = (await readMatches(this.ref, needle, range)).filter((line) => !line.gap);
      const line = backwards ? found.at(-1) : found[0];
      setText(this.toolbar.message, line ? "" : errors ? "no more standard error" : backwards ? "no match before this" : "no match after this");
      if (line) change({ seq: line.seq }, { replace: true });
    } catch (error) {
      this.onFailed(/** @type {Error} */ (error));
    }
  }

  /** @param {MouseEvent} event */
  async onClick(event) {
    const target = event.target instanceof HTMLElement ? event.target : null;
    const whole = target?.dataset["whole"];
    try {
      if (whole) await (await actions()).showWhole(this.ref, Number(whole));
    } catch (error) {
      this.onFailed(/** @type {Error} */ (error));
    }
    const row = target?.closest(".gutter")?.parentElement;
    const seq = Number(row?.dataset["seq"] ?? 0);
    if (!seq || !this.ref) return;
    if (event.shiftKey && this.marked) {
      this.lastMarked = seq;
      this.scroller.refresh();
      await (await actions()).copyLines(this.ref, this.marked, seq);
      return;
    }
    this.lastMarked = 0;
    if (this.lines instanceof MatchingLines) go({ process: place.process, seq, grep: place.grep, regex: place.regex, case: place.case });
    else change({ seq: seq === this.marked ? 0 : seq }, { replace: true });
  }

  // ---- looks

  toggleWrap() {
    this.look.wrap = !this.look.wrap;
    remember("wrap", this.look.wrap);
    this.scroller.setWrap(this.look.wrap);
    this.toolbar.show(place, this.look);
  }

  toggleTimes() {
    this.look.times = !this.look.times;
    remember("times", this.look.times);
    this.scroller.refresh();
    this.toolbar.show(place, this.look);
  }

  showFoot() {
    this.frame.show({
      lines: this.lines,
      isMatches: this.lines instanceof MatchingLines && (place.grep !== "" || place.stream !== ""),
      isRun: place.run > 0,
      isRead: this.isRead,
      bottom: this.bottom,
      rate: this.feed?.rate() ?? 0,
      state: this.state,
      trouble: this.trouble,
      follows: this.scroller.isPinned,
      newLines: this.newLines,
    });
  }

  /** @param {KeyboardEvent} event @returns {boolean} Whether the key was used. */
  onKey(event) {
    return useKey(this, event);
  }

  showTop() {
    this.follow(false);
    this.scroller.show(0, "top");
  }

  /** @param {number} px */
  moveBy(px) {
    this.scroller.move(px);
    this.onScrolled(px < 0);
  }

  close() {
    this.isClosed = true;
    clearInterval(this.timer);
    document.removeEventListener("selectionchange", this.onSelect);
    this.feed?.close();
    this.lines.close();
    this.highlights.close();
    this.histogram.close();
    this.scroller.close();
  }
}

/** What is done with lines is loaded when it is first done. */
function actions() {
  return import("./actions.js");
}

function needleOf() {
  return { grep: place.grep, regex: place.regex, ignoreCase: place.case, stream: place.stream };
}

/** Whether two lists have the same lines. @param {MatchingLines} list @param {MatchingLines} asked */
function isSameChoice(list, asked) {
  const [one, other] = [list.needle, asked.needle];
  return list.run === asked.run && one.grep === other.grep && one.regex === other.regex && one.ignoreCase === other.ignoreCase && one.stream === other.stream;
}
