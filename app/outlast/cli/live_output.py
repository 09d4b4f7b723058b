"""The output of a command while it runs, on our own standard streams."""

import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import groupby
from types import FrameType

from outlast.cli.connect import Screen
from outlast.cli.exact import ExactLines
from outlast.cli.messages import STDERR, STDOUT, say, write_result
from outlast.cli.processes import what_is_missing
from outlast.cli.terminal import printable
from outlast.client import Gap, Line, OutlastError, Process

_SILENT_S = 0.5
_WAKE = signal.SIGUSR1


def show_to_end(process: Process, screen: Screen) -> None:
    """Show the output of a process until it has ended.

    Processes that it has left behind may keep its output open: then what they print is shown until they are silent.

    Raises:
        ProcessGone: the process was purged meanwhile.
    """
    output, watch = _Output(process, screen), _Watch(process)
    # The handler stays: the signal may still be on its way when the output ends by itself.
    signal.signal(_WAKE, watch.wake)
    watch.start()
    batches = process.follow_batches(on_reconnect=_say_so)
    while not watch.is_over and (items := watch.awaited(batches)) is not None:
        output.show(items)
    output.end()


def _say_so(_: int) -> None:
    say("outlast: the connection broke; going on where it did", err=True)


class _OverError(Exception):
    """The process has ended, and its output is silent."""


class _Watch:
    """A thread that waits for the end of a process, and a signal by which it wakes the reader of the output.

    Attributes:
        is_over: whether the process has ended, and its output has been silent since.
    """

    def __init__(self, process: Process) -> None:
        self.is_over = False
        self._process = process
        self._waits = False
        self._came_at = time.monotonic()
        self._seen_seq = 0

    def start(self) -> None:
        """Watch the process from now on."""
        threading.Thread(target=self._run, daemon=True).start()

    def awaited(self, batches: Generator[list[Line | Gap], None]) -> list[Line | Gap] | None:
        """Return the next items; None: there are no more, or the process has ended and they are not waited for."""
        try:
            self._waits = True
            items = None if self.is_over else next(batches, None)
        except _OverError:
            batches.close()
            return None
        finally:
            self._waits = False
        self._came_at = time.monotonic()
        if items:
            last = items[-1]
            self._seen_seq = last.seq if isinstance(last, Line) else last.last
        return items

    def wake(self, _number: int, _frame: FrameType | None) -> None:
        """Wake the reader, if it waits for output.

        Raises:
            _OverError: it does.
        """
        if self._waits:
            raise _OverError

    def _run(self) -> None:
        try:
            self._process.wait()
            # A reader whose connection is broken is silent, too: what is stored has to have come.
            while not (self._is_silent() and self._seen_seq >= self._process.refresh().output.last_seq):
                time.sleep(_SILENT_S / 5)
        except OutlastError:
            return  # the reader of the output meets it, too
        self.is_over = True
        os.kill(os.getpid(), _WAKE)

    def _is_silent(self) -> bool:
        return self._waits and time.monotonic() - self._came_at >= _SILENT_S


class _Output:
    """Our standard streams. What is none of a terminal's gets the exact bytes."""

    def __init__(self, process: Process, screen: Screen) -> None:
        self._fds = {"stdout": STDOUT, "stderr": STDERR}
        self._are_terminals = {stream: os.isatty(fd) for stream, fd in self._fds.items()}
        self._colours = screen.colours
        self._exact = ExactLines(process)

    def show(self, items: list[Line | Gap]) -> None:
        """Write items."""
        lines: list[Line] = []
        for item in items:
            if isinstance(item, Line):
                lines.append(item)
                continue
            self._write(lines)
            lines = []
            say(f"outlast: {what_is_missing(item)}", err=True)
        self._write(lines)

    def end(self) -> None:
        """Write what was waited for."""
        for stream, data in self._exact.rest():
            write_result(data, self._fds[stream])

    def _write(self, lines: list[Line]) -> None:
        for is_terminal, group in groupby(lines, key=lambda line: self._are_terminals[line.stream]):
            for stream, data in self._for_terminal(group) if is_terminal else self._exact.pieces(group):
                write_result(data, self._fds[stream])

    def _for_terminal(self, lines: Iterable[Line]) -> Iterator[tuple[str, bytes]]:
        for stream, group in groupby(lines, key=lambda line: line.stream):
            shown = (printable(line.text, colours=self._colours) + ("\n" if line.complete else "") for line in group)
            yield stream, "".join(shown).encode("utf-8", "backslashreplace")
