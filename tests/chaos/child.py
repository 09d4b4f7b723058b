"""A child of a campaign: `python -S -m tests.chaos.child FOLDER TAG SEED KIND`. Standard library only.

The child runs its script and keeps a journal of that, with everything that disturbed it: a signal from outside, a pipe
without a reader, a closed standard input.
"""

import os
import select
import signal
import sys
import time
import tty
from pathlib import Path

from tests.chaos.journal import JournalWriter, absence_path, input_path, journal_path, now_ms, read_journal
from tests.chaos.scripts import (
    HAS_INPUT,
    RESTARTED,
    STDOUT,
    TERMINAL,
    AwaitAbsence,
    Echo,
    End,
    HandOver,
    Pause,
    Write,
    run_kind,
    steps,
)

_LOOK_AGAIN_S = 0.005
_READ_BYTES = 64 << 10
_ABSENCE_S = 900.0
DISTURBED = 99


class Child:
    """A child that runs a script."""

    def __init__(self, folder: Path, tag: str, seed: int, kind: str) -> None:
        self._folder = folder
        self._tag = tag
        self._steps = steps(seed, kind)
        self._journal = JournalWriter(journal_path(folder, tag))
        self._totals = {1: 0, 2: 0}
        self._is_heir = False
        self._may_look_at_input = kind in HAS_INPUT and kind != "echo"
        if kind == TERMINAL:
            tty.setraw(STDOUT)  # so that what it prints is what is stored

    def run(self) -> None:
        self._journal.append("start", ms=now_ms(), pid=os.getpid())
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(number, self._on_signal)
        for step in self._steps:
            match step:
                case Write(stream=stream, data=data):
                    self._look_at_input()
                    self._write(stream, data)
                case Pause(seconds=seconds):
                    time.sleep(seconds)
                case AwaitAbsence():
                    self._await_absence()
                case Echo():
                    self._echo()
                case HandOver(code=code):
                    self._hand_over(code)
                case End():
                    self._end(step)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._journal.append("disturbed", why=f"signal {number}", ms=now_ms())

    def _look_at_input(self) -> None:
        if self._may_look_at_input and select.select([0], [], [], 0)[0]:
            self._journal.append("disturbed", why="standard input was closed", ms=now_ms())
            self._may_look_at_input = False

    def _write(self, stream: int, data: bytes) -> None:
        begun_ms = now_ms()
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(stream, left) :]
            except OSError as exc:
                self._journal.append("disturbed", why=f"write to {stream}: {exc}", ms=now_ms())
                os._exit(DISTURBED)
        self._totals[stream] += len(data)
        self._journal.append(
            "write", stream=stream, begun_ms=begun_ms, done_ms=now_ms(), total_bytes=self._totals[stream]
        )

    def _await_absence(self) -> None:
        deadline = time.monotonic() + _ABSENCE_S
        while not absence_path(self._folder, self._tag).exists():
            if time.monotonic() > deadline:
                self._journal.append("disturbed", why="the campaign has gone", ms=now_ms())
                os._exit(DISTURBED)
            time.sleep(_LOOK_AGAIN_S)

    def _echo(self) -> None:
        with input_path(self._folder, self._tag).open("ab", buffering=0) as kept:
            while data := os.read(0, _READ_BYTES):
                kept.write(data)
                self._write(STDOUT, data)
        self._journal.append("input-ended", ms=now_ms())

    def _hand_over(self, code: int) -> None:
        if os.fork():
            self._journal.append("end", ms=now_ms())
            os._exit(code)
        self._is_heir = True

    def _end(self, how: End) -> None:
        self._journal.append("finished", ms=now_ms())
        if not self._is_heir:
            self._journal.append("end", ms=now_ms())
        if how.signal is None:
            os._exit(how.code or 0)
        if how.signal != signal.SIGKILL:
            signal.signal(how.signal, signal.SIG_DFL)
        os.kill(os.getpid(), how.signal)
        signal.pause()


def main(folder: Path, tag: str, seed: int, kind: str) -> None:
    if kind == RESTARTED:
        earlier = read_journal(journal_path(folder, tag))
        kind = run_kind(len(earlier.pids) if earlier else 0)
    Child(folder, tag, seed, kind).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
