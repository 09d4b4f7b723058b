"""Everything that a command says: messages, which nobody has to read, and results."""

import os
import sys

from outlast.linux.inherited import fill_standard_fds
from outlast.linux.messages import escape, write_message
from outlast.model.errors import OutlastError

STDIN, STDOUT, STDERR = 0, 1, 2


def open_standard_streams() -> None:
    """Make sure that there are three standard streams, whatever the caller has closed."""
    fill_standard_fds()
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 - open for life


def say(sentence: str, *, err: bool = False) -> None:
    """Print a sentence. It is lost if nobody can read it now: what the command does is more important."""
    write_message(STDERR if err else STDOUT, escape(sentence) + "\n")


def print_result(text: str) -> None:
    """Print what the user asked for, and wait for its reader.

    Raises:
        BrokenPipeError: the reader is gone.
        OutlastError: the result cannot be written.
    """
    write_result((text + "\n").encode("utf-8", "backslashreplace"))


def write_result(rest: bytes, fd: int = STDOUT) -> None:
    """Write bytes that the user asked for, and wait for their reader. `fd`: standard output, or the command's error.

    Raises:
        BrokenPipeError: the reader is gone.
        OutlastError: they cannot be written.
    """
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:
        raise
    except OSError as exc:
        name = "error" if fd == STDERR else "output"
        raise OutlastError(f"the result cannot be written to standard {name}: {exc.strerror}") from None
