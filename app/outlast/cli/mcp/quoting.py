"""Text of others, quoted as data: it ends no line, hides nothing, and is no longer than an answer has room for."""

import unicodedata
from collections import deque

from outlast.cli.terminal import without_colours
from outlast.client import Gap, Line

MOST_CHARACTERS = 20_000
"""Most characters of an answer."""
ROOM = MOST_CHARACTERS - 2000
"""Most characters of what an answer quotes. The rest is for its own sentences."""
LINE_CHARACTERS = 2000
"""Most characters of a quoted line, unless it is the only one."""
NAME_CHARACTERS = 100
CUT = "… (and "
"""Begin of what follows text that was cut."""
_MARKS = {"stdout": "out", "stderr": "err"}
_BLANKS = {"Zs"}
"""Categories of characters that are not printable, as Python says, and yet hide nothing."""


def quote(text: str, most: int = NAME_CHARACTERS) -> str:
    r"""Return text on one line, without colours, and all other characters that nobody sees as `\r`, `\u202e`.

    `most`: characters that the answer has room for; those of the text that are cut off are counted.
    """
    text = without_colours(text.removesuffix("\r"))
    begin = text[:most]
    if begin.isascii() and begin.isprintable():
        shown, count = begin, len(begin)
    else:
        shown, count = "", 0
        for character in begin:
            added = _show(character)
            if len(shown) + len(added) > most:
                break
            shown, count = shown + added, count + 1
    return f"{shown}{CUT}{len(text) - count:,} characters)" if count < len(text) else shown


def _show(character: str) -> str:
    if character.isprintable() or character == "\t" or unicodedata.category(character) in _BLANKS:
        return character
    return repr(character)[1:-1]


def quote_line(seq: int, stream: str, text: str, most: int = LINE_CHARACTERS) -> str:
    """Return a line of output as `17 out| text`: everything behind the bar is what a process printed."""
    return f"{seq} {_MARKS[stream]}| {quote(text, most)}"


def quote_item(item: Line | Gap, most: int = LINE_CHARACTERS) -> str:
    """Return a line of output, or what is missing, on one line."""
    if isinstance(item, Line):
        return quote_line(item.seq, item.stream, item.text, most)
    return f"({item.first}-{item.last}: this output is missing: {item.reason})"


class Quoted:
    """Rows of an answer, as many as there is room for.

    Attributes:
        rows: the rows, in order.
        is_full: whether a row found no room.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.rows: deque[str] = deque()
        self.is_full = False
        self._room = room

    def append(self, row: str) -> bool:
        """Add a row behind the others. Return whether there was room."""
        if is_room := self._take(row):
            self.rows.append(row)
        return is_room

    def prepend(self, row: str) -> bool:
        """Add a row before the others. Return whether there was room."""
        if is_room := self._take(row):
            self.rows.appendleft(row)
        return is_room

    def _take(self, row: str) -> bool:
        needed = len(row) + 1  # with its line break
        self.is_full = self.is_full or needed > self._room
        if not self.is_full:
            self._room -= needed
        return not self.is_full


def bounded(text: str) -> str:
    """Return an answer, cut where it is longer than one may be."""
    over = len(text) - MOST_CHARACTERS
    if over <= 0:
        return text
    ending = f"\n… (cut: the answer has {len(text):,} characters)"
    return text[: MOST_CHARACTERS - len(ending)] + ending
