"""`logs`: the output of processes, stored and live."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from outlast.cli.connect import INTERRUPTED, Screen, exit_code_of, screen_command
from outlast.cli.exact import ExactLines
from outlast.cli.line_filter import LineFilter
from outlast.cli.messages import say, write_result
from outlast.cli.moments import moment, show_day, show_moment
from outlast.cli.processes import how_it_ended, what_is_deleted, what_is_missing
from outlast.cli.references import REFS, word_of
from outlast.cli.terminal import DIM, RED, bar_of, cells, colour_of, pad, paint, printable
from outlast.client import Disconnected, Ended, Gap, Line, Outlast, OutlastError, Process, Unauthorized

_LIVE_TAIL = 100
_BUFFER_BYTES = 1 << 16
_DELTA_WIDTH = len("+3600.000")
_DAY_CHECKED_MS = 900_000  # days begin at full quarters of an hour, in every zone


@dataclass(frozen=True, slots=True)
class _Choice:
    """Part of the output that is shown."""

    stream: str
    tail: int | None
    since: int | None
    until: int | None


def _tail(word: str) -> int:
    """Return a number of lines; -1 is all.

    Raises:
        click.BadParameter: it is none.
    """
    if word != "all" and not word.isdecimal():
        raise click.BadParameter(f"{word!r} is not a number of lines, or all")
    return -1 if word == "all" else int(word)


@click.command("logs", short_help="Show the output of processes.")
@screen_command(exits_alike=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with new output, until every process has ended.")
@click.option("-n", "--lines", "tail", type=_tail, metavar="N", help="The last N lines, or all. [all; -f: 100]")
@click.option("--since", type=moment, metavar="T", help="Lines since then: 10m, yesterday, 09:30, 2026-11-27 ...")
@click.option("--until", type=moment, metavar="T", help="Lines until then.")
@click.option("--run", "run", metavar="N|last|all", default="all", help="Lines of one run. [all]")
@click.option("--out", is_flag=True, help="Standard output alone.")
@click.option("--err", is_flag=True, help="Standard error alone.")
@click.option("-g", "--grep", "pattern", metavar="RE", help="Only lines that match an expression (RE2).")
@click.option("-i", "--ignore-case", is_flag=True, help="-g: upper and lower case are the same.")
@click.option("-v", "--invert-match", is_flag=True, help="-g: only lines that do not match.")
@click.option("-C", "--context", type=click.IntRange(0), default=0, metavar="N", help="-g: N lines around each, too.")
@click.option("-t", "--times", is_flag=True, help="With the time of each line.")
@click.option("--iso", is_flag=True, help="With the time of each line in RFC 3339.")
@click.option("--delta", is_flag=True, help="With the time since the line before.")
@click.option("--no-prefix", is_flag=True, help="Without the names of processes.")
@click.option("--raw", is_flag=True, help="The exact bytes, also to a terminal.")
@click.option("--until-exit", is_flag=True, help="Follow until the process has ended, and exit as it did.")
@REFS
def logs_command(screen: Screen, ol: Outlast, refs: tuple[str, ...], **given: Any) -> None:
    """Show the output of processes: all that is stored, or with -f the last 100 lines and then new ones as they come.

    -n counts lines before -g chooses some of them.

    A follow goes on when the daemon is restarted or killed, and when a managed process restarts. To a terminal, escape
    sequences other than colours are shown and not executed; to a file or pipe go the exact bytes.
    """
    follows = given["follow"] or given["until_exit"]
    if given["until_exit"] and len(refs) > 1:
        raise click.UsageError("--until-exit exits as one process did: name one")
    if follows and len(refs) > 1 and (given["until"] is not None or given["run"] != "all"):
        raise click.UsageError("--until and --run end a follow of one process: name one")
    processes = [ol.process(ref) for ref in refs]
    form = "delta" if given["delta"] else "iso" if given["iso"] else "clock" if given["times"] else ""
    chosen = [_choose(process, follows=follows, **given) for process in processes]
    names = {process.id: word_of(process) for process in processes}
    with_names = len(processes) > 1 and not given["no_prefix"]
    shown = names if with_names else {}
    is_exact = given["raw"] or not (screen.is_terminal or form or with_names)
    writer = _Writer(screen, shown, form, _filter(**given), is_exact=is_exact)
    if follows:
        _follow(ol, list(zip(processes, chosen, strict=True)), writer)
    else:
        _page(screen, writer, list(zip(processes, chosen, strict=True)))
    if given["until_exit"]:
        info = processes[0].wait()
        raise click.exceptions.Exit(exit_code_of(info.reason, info.exit_code, info.signal))


def _choose(
    process: Process,
    *,
    follows: bool,
    tail: int | None,
    since: int | None,
    until: int | None,
    run: str,
    out: bool,
    err: bool,
    **_: object,
) -> _Choice:
    """Return the part of the output of a process that the options name.

    Raises:
        click.UsageError: they contradict each other, or there is no such run.
    """
    if out and err:
        raise click.UsageError("--out and --err exclude each other: without them, both streams are shown")
    if run != "all":
        started, ended = _times_of(process, run)
        since = max(started, since or 0)
        until = ended if until is None else until if ended is None else min(until, ended)
    if tail is None and follows and since is None:
        tail = _LIVE_TAIL
    return _Choice(
        "stdout" if out else "stderr" if err else "output", None if tail in {None, -1} else tail, since, until
    )


def _filter(
    *, pattern: str | None, ignore_case: bool, invert_match: bool, context: int, **_: object
) -> LineFilter | None:
    if pattern is not None:
        return LineFilter(pattern, ignores_case=ignore_case, is_inverted=invert_match, around=context)
    if ignore_case or invert_match or context:
        raise click.UsageError("-i, -v and -C say how -g matches: give -g, too")
    return None


def _times_of(process: Process, run: str) -> tuple[int, int | None]:
    """Return when a run was started, and when the next one was; None: there is none."""
    following = None
    for each in process.runs():
        if run == "last" or run == str(each.run):
            return each.started_at, following
        following = each.started_at - 1
    raise click.UsageError(f"there is no run {run}: name a number, last or all")


# ---- stored


def _page(screen: Screen, writer: "_Writer", chosen: list[tuple[Process, _Choice]]) -> None:
    """Show stored output, through a pager if people read it and it is longer than their screen."""
    pager = os.environ.get("PAGER", "less -R") if screen.is_terminal and sys.stdin.isatty() else ""
    with writer.through(pager):
        for process, choice in chosen:
            if writer.passes_bytes:
                writer.pass_on(process, choice)
                continue
            for item in process.lines(choice.stream, tail=choice.tail, since=choice.since, until=choice.until):
                writer.show(process, item)
            writer.end(process, None)


# ---- live


def _follow(ol: Outlast, chosen: list[tuple[Process, _Choice]], writer: "_Writer") -> None:
    """Show stored output and then new output as it comes, until every process has ended, or Ctrl-C."""
    try:
        if len(chosen) == 1:
            _follow_one(*chosen[0], writer)
        elif not _follow_all(ol, [process for process, _ in chosen], chosen[0][1], writer):
            raise click.exceptions.Exit(1)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


def _follow_one(process: Process, choice: _Choice, writer: "_Writer") -> None:
    batches = process.follow_batches(
        choice.stream,
        tail=choice.tail,
        since=choice.since,
        until=choice.until,
        on_reconnect=lambda last: _say_where(f"{word_of(process)}:{last}"),
    )
    try:
        for items in batches:
            for item in items:
                writer.show(process, item)
            writer.flush()
    except (Disconnected, Unauthorized):
        raise
    except OutlastError as exc:
        _say_of(process, str(exc))
        raise click.exceptions.Exit(1) from None
    writer.end(process, None)


def _follow_all(ol: Outlast, processes: list[Process], choice: _Choice, writer: "_Writer") -> bool:
    """Show the output of several processes, in the order in which it was read. Return whether none was purged."""
    by_id = {process.id: process for process in processes}
    batches = ol.follow_batches(
        processes,
        stream=None if choice.stream == "output" else choice.stream,
        tail=choice.tail,
        since=choice.since,
        on_reconnect=lambda seqs: _say_where(" ".join(f"{word_of(by_id[id_])}:{seq}" for id_, seq in seqs.items())),
    )
    purged = False
    for items in batches:
        for member, item in items:
            process = by_id[member.id]
            if not isinstance(item, Ended):
                writer.show(process, item)
            elif item.reason == "purged":
                purged = True
                _say_of(process, "it was purged while it was followed")
            else:
                writer.end(process, item)
        writer.flush()
    return not purged


def follow_tagged(
    ol: Outlast,
    screen: Screen,
    tags: Mapping[str, str],
    since: int,
    name_of: Callable[[str], str],
    names: Sequence[str],
) -> Iterator[Ended]:
    """Show what processes with tags print, those that start later too, and yield each end.

    Args:
        ol: the client.
        screen: what is written to.
        tags: the tags.
        since: time from which output is shown, in milliseconds since the Unix epoch.
        name_of: returns how the process with a name is called here.
        names: names for which there is to be room.
    """
    known: dict[str, Process] = {}
    shown = {name: name for name in names}
    writer = _Writer(screen, shown, "", None, is_exact=False)
    for items in ol.follow_batches(
        tags=tags, since=since, on_reconnect=lambda _: say("outlast: the connection broke; going on", err=True)
    ):
        for member, item in items:
            if member.id not in known:
                known[member.id] = ol.process(member.id)
                shown[member.id] = name_of(member.name or "")
            if isinstance(item, Ended):
                writer.end(known[member.id], item)
                yield item
            else:
                writer.show(known[member.id], item)
        writer.flush()


def _say_where(places: str) -> None:
    say(f"outlast: the connection broke; going on at {places}", err=True)


def _say_of(process: Process, sentence: str) -> None:
    say(f"outlast: {word_of(process)}: {sentence}", err=True)


# ---- lines on a screen or in a file


class _Writer:
    """A writer of lines of several processes to standard output.

    Attributes:
        passes_bytes: whether all bytes go out as they were written.
    """

    def __init__(
        self, screen: Screen, names: dict[str, str], form: str, line_filter: LineFilter | None, *, is_exact: bool
    ) -> None:
        """Prepare to write.

        Args:
            screen: what is written to.
            names: by id, as prefixes.
            form: of times; empty: there are none.
            line_filter: chooses lines; None: all of them.
            is_exact: whether lines go out as they were written, without names and times.
        """
        self.passes_bytes = is_exact and line_filter is None
        self._is_exact = is_exact
        self._filter = line_filter
        self._screen = screen
        self._names = names
        self._width = max(map(cells, names.values()), default=0)
        self._form = form
        self._day = ""
        self._checked = 0
        self._exact: dict[str, ExactLines] = {}
        self._buffer: list[Any] = []
        self._size = 0
        self._open: tuple[str, ...] = ()
        self._last_ms: int | None = None
        self._prefix_key = ("", "", 0)
        self._prefix = ""
        self._out: Any = None

    def through(self, pager: str) -> "_Pager":
        """Return a context in which lines go through a pager; an empty one is none."""
        return _Pager(self, pager)

    def pass_on(self, process: Process, choice: _Choice) -> None:
        """Write stored output, byte by byte as it was written."""
        found = process.byte_chunks(
            choice.stream,
            tail=choice.tail,
            since=choice.since,
            until=choice.until,
            on_trimmed=lambda lines, count: _say_of(process, what_is_deleted(lines, count)),
        )
        for data in found:
            write_result(data)

    def show(self, process: Process, item: Line | Gap) -> None:
        """Write a line or a gap, if the filter lets it pass."""
        if self._filter is None:
            self._show(process, item)
        else:
            self._show_passed(process, self._filter.passed(process.id, item))

    def _show_passed(self, process: Process, items: Iterable[Line | Gap | None]) -> None:
        for item in items:
            if item is not None:
                self._show(process, item)
            else:
                self._write(b"--\n" if self._is_exact else "--\n")

    def _show(self, process: Process, item: Line | Gap) -> None:
        if self._is_exact:
            if isinstance(item, Gap):
                self.flush()
                _say_of(process, what_is_missing(item))
            exact = self._exact.get(process.id) or self._exact.setdefault(process.id, ExactLines(process))
            self._write(exact.bytes_of(item))
            return
        if isinstance(item, Gap):
            self._note(process, what_is_missing(item))
            return
        if (
            item.complete
            and not self._open
            and not self._screen.is_terminal
            and self._form != "delta"
            and (process.id, item.stream, item.timestamp) == self._prefix_key
        ):
            self._write(f"{self._prefix}{item.text}\n")  # most lines of a flood
        else:
            self._write(self._line(process, item))

    def end(self, process: Process, ended: Ended | None) -> None:
        """Take the end of a process. `ended`: how it ended, which is said; None: that is left unsaid."""
        if self._filter is not None:
            self._show_passed(process, self._filter.rest(process.id))
        if self._is_exact:
            for _, data in self._exact.setdefault(process.id, ExactLines(process)).rest():
                self._write(data)
        elif self._names and ended is not None:
            self._note(process, how_it_ended(ended.reason, ended.exit_code, ended.signal))
        self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        pieces, self._buffer, self._size = self._buffer, [], 0
        data = b"".join(pieces) if self._is_exact else "".join(pieces).encode("utf-8", "backslashreplace")
        if data:
            self._out(data) if self._out is not None else write_result(data)

    def send_to(self, out: Any) -> None:
        """Write to `out` from now on; None: to standard output."""
        self.flush()
        self._out = out

    def _write(self, data: bytes | str) -> None:
        self._buffer.append(data)
        self._size += len(data)
        if self._size >= _BUFFER_BYTES:
            self.flush()

    def _line(self, process: Process, line: Line) -> str:
        colours = self._screen.colours
        text = printable(line.text, colours=colours) if self._screen.is_terminal else line.text
        if line.stream == "stderr" and colours and not self._names:
            text = paint(text, RED)
        # Of a flood, thousands of lines have the same time.
        key = (process.id, line.stream, line.timestamp)
        if key != self._prefix_key or self._form == "delta":
            self._prefix_key, self._prefix = key, self._make_prefix(process, line)
        part = key[:2]
        if self._open != part:  # else the rest of a prompt stands behind it: nothing has come between
            end = "\n" if self._open else ""
            text = f"{end}{self._divider(line.timestamp)}{self._prefix}{text}"
        self._open = () if line.complete else part
        return f"{text}\n" if line.complete else text

    def _make_prefix(self, process: Process, line: Line) -> str:
        colours = self._screen.colours
        words = []
        if self._names:
            name = pad(printable(self._names[process.id], colours=False), self._width)
            if colours:
                name = paint(name, colour_of(process.id))
            words += [name, bar_of(line.stream, colours=colours)]
        if self._form:
            when = self._show_time(line.timestamp)
            words.append(paint(when, DIM) if colours else when)
        return "".join(f"{word} " for word in words)

    def _show_time(self, timestamp: int) -> str:
        if self._form != "delta":
            return show_moment(timestamp, self._form, self._screen.zone)
        before, self._last_ms = self._last_ms, timestamp
        seconds = 0 if before is None else (timestamp - before) / 1000
        return f"{seconds:+.3f}".rjust(_DELTA_WIDTH)

    def _divider(self, timestamp: int) -> str:
        """Return the line that stands before the first line of a day: times of day do not tell it."""
        if self._form != "clock" or not self._screen.is_terminal:
            return ""
        if timestamp // _DAY_CHECKED_MS == self._checked:
            return ""
        self._checked = timestamp // _DAY_CHECKED_MS
        day = show_day(timestamp, self._screen.zone)
        if day == self._day:
            return ""
        self._day = day
        text = f"── {day} ──"
        return (paint(text, DIM) if self._screen.colours else text) + "\n"

    def _note(self, process: Process, sentence: str) -> None:
        name = printable(word_of(process), colours=False)
        text = f"{pad(name, self._width)} ── {sentence} ──"
        text = ("\n" if self._open else "") + (paint(text, DIM) if self._screen.colours else text) + "\n"
        self._open = ()
        self._write(text)


class _Pager:
    """A pager that is started once there is more than a screen of lines."""

    def __init__(self, writer: _Writer, pager: str) -> None:
        self._writer = writer
        self._pager = pager
        self._process: subprocess.Popen[bytes] | None = None
        self._held = b""

    def __enter__(self) -> None:
        if self._pager:
            self._writer.send_to(self._take)

    def __exit__(self, *_: object) -> None:
        self._writer.flush()
        if not self._pager:
            return
        if self._process is None:
            write_result(self._held)
        else:
            self._process.communicate()

    def _take(self, data: bytes) -> None:
        if self._process is None:
            self._held += data
            if self._held.count(b"\n") < os.get_terminal_size().lines:
                return
            # The pager is the user's own command line.
            self._process = subprocess.Popen(self._pager, shell=True, stdin=subprocess.PIPE)  # noqa: S602 - see above
            data = self._held
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            stdin.write(data)
        except BrokenPipeError:  # the reader has left
            self._process.wait()
            raise click.exceptions.Exit(0) from None
