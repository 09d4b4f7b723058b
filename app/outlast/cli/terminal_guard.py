"""The guard of a terminal: a program that puts it back when the one that made it raw was killed.

Standard input is told, in lines: the attributes of the terminal (JSON), then, in hexadecimal digits, what changes the
modes of its screen back, again whenever that is another; `DONE` if the guard is not needed any more. Standard output is
the terminal. This file runs alone, without the package: it imports the standard library only.
"""

import json
import os
import signal
import sys
import termios
from typing import Any

DONE = "done"

_TERMINAL = 1
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTTOU)


def plain(attributes: list[Any]) -> list[Any]:
    """Return attributes of a terminal in numbers."""
    *flags, characters = attributes
    return [*flags, [each[0] if isinstance(each, bytes) else each for each in characters]]


def main() -> None:
    """Wait for the end of the other program, and put the terminal back unless that has done it."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    before, back = "", ""
    for line in sys.stdin:
        if line.strip() == DONE:
            return
        before, back = before or line, line
    if before:
        termios.tcsetattr(_TERMINAL, termios.TCSANOW, json.loads(before))
        os.write(_TERMINAL, bytes.fromhex(back))


if __name__ == "__main__":
    main()
