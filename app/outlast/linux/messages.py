"""Messages to people, on a terminal or in a log: what others wrote acts on neither, and no reader is waited for."""

import os
import re
import select

ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that end a line, command a terminal, change the order of what is shown, or stand for a byte."""
_BYTES = 0xDC00
"""A path's byte that is not UTF-8, plus this, is the character that Python reads in its place."""


def escape(text: str) -> str:
    r"""Return text with each character that acts on a terminal or a line of a log written as `\n`, `\x1b`, `\u202e`."""
    return ACTING.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number - _BYTES:02x}" if _BYTES <= number <= _BYTES + 0xFF else repr(match[0])[1:-1]


def write_message(fd: int, text: str) -> bool:
    """Write text as far as the descriptor takes it now: nothing may wait for the reader of messages, or end with it.

    Returns:
        Whether all of it was written. It is not if the disk is full, or the reader is gone or slow.
    """
    rest = text.encode("utf-8", "backslashreplace")
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        while rest and poll.poll(0):
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]  # a pipe that is ready takes so much without a wait
    except OSError:
        return False
    return not rest
