"""Interruption: all that was started is ended on the way out."""

import signal
import sys


def end_when_interrupted() -> None:
    """Make Ctrl-C and SIGTERM end this program by SystemExit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    """End, and leave nothing running: a second Ctrl-C must not break into that."""
    signal.signal(number, lambda _number, _frame: None)
    sys.exit(128 + number)
