"""Our own terminal while it shows another: raw, and as it was before when we leave, however we do."""

import contextlib
import json
import os
import re
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

from outlast.cli import terminal_guard
from outlast.cli.messages import STDIN, STDOUT

_MODE = re.compile(rb"\x1b\[\?([\d;]{1,32})([hl])")
_LONGEST = 36
_ON_AT_FIRST = {b"7"}
"""Modes that a terminal begins with: lines wrap."""
_OFTEN = {b"25", b"2026"}
"""Modes that programs change with each picture: whether the cursor is seen, and whether the picture is whole."""
_AT_LAST = b"\x1b[?25h\x1b[0m"


class Modes:
    """The modes of a screen that programs have changed and not changed back.

    Attributes:
        back: what changes them back.
    """

    def __init__(self) -> None:
        self.back = _AT_LAST
        self._changed: set[bytes] = set()
        self._rest = b""

    def note(self, data: bytes) -> bool:
        """Note the changes in what was printed, and tell whether `back` is another one now."""
        data = self._rest + data
        begin = data.rfind(b"\x1b", max(0, len(data) - _LONGEST))
        self._rest = data[begin:] if begin >= 0 and not _MODE.match(data, begin) else b""
        found = _MODE.findall(data)
        if not found:
            return False
        for names, on in found:
            for name in names.split(b";"):
                if name not in _OFTEN:
                    changes = (on == b"h") is not (name in _ON_AT_FIRST)
                    (self._changed.add if changes else self._changed.discard)(name)
        before, self.back = self.back, b"".join([*map(_back, sorted(self._changed)), _AT_LAST])
        return before != self.back


def _back(name: bytes) -> bytes:
    return b"\x1b[?%b%b" % (name, b"h" if name in _ON_AT_FIRST else b"l")


class RawTerminal:
    """Our terminal, which is raw. A guard, a program of its own, puts it back if this one is killed."""

    def __init__(self, before: list[Any], guard: int) -> None:
        """Tell the guard what to do.

        Args:
            before: attributes of the terminal before it was raw.
            guard: descriptor by which the guard is told.
        """
        self._guard = guard
        self._modes = Modes()
        self._tell(json.dumps(terminal_guard.plain(before)))
        self._tell(self._modes.back.hex())

    def shown(self, data: bytes) -> None:
        """Note what was printed."""
        if self._modes.note(data):
            self._tell(self._modes.back.hex())

    def put_back(self) -> None:
        """Change the modes of the screen back, and dismiss the guard."""
        if os.isatty(STDOUT):
            with contextlib.suppress(OSError):
                os.write(STDOUT, self._modes.back)
        self._tell(terminal_guard.DONE)
        os.close(self._guard)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the guard was killed
            os.write(self._guard, line.encode() + b"\n")


@contextlib.contextmanager
def raw_terminal() -> Iterator[RawTerminal]:
    """Make our terminal raw, and put it back at the end.

    Raises:
        termios.error: standard input is not a terminal.
    """
    before = termios.tcgetattr(STDIN)
    raw = RawTerminal(before, _start_guard())
    try:
        tty.setraw(STDIN, termios.TCSADRAIN)
        yield raw
    finally:
        with contextlib.suppress(termios.error):  # it was hung up
            termios.tcsetattr(STDIN, termios.TCSANOW, before)
        raw.put_back()


def _start_guard() -> int:
    """Start the guard, outside our process group, and return the descriptor by which it is told what to do."""
    reader, writer = os.pipe()
    try:
        command = [sys.executable, "-I", "-S", terminal_guard.__file__]
        places = [(os.POSIX_SPAWN_DUP2, STDIN, 1), (os.POSIX_SPAWN_DUP2, reader, 0)]
        os.posix_spawn(command[0], command, os.environ, file_actions=places, setpgroup=0)
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    return writer
