"""The shim's log: its standard error."""

import contextlib
import sys


def log(sentence: str) -> None:
    """Write a line to the log. A full disk must not end the shim: then the line is missing."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
