"""Text for terminals: what passes, how wide it is, and when it has colours."""

import os
import re
import unicodedata
import zlib
from collections.abc import Mapping

from outlast.linux.messages import escape

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_COLOURS = (31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96)
_ESC, _PICTURES, _DEL = 0x1B, 0x2400, 0x7F
_JOINS = {"Mn", "Me", "Cf"}
"""Categories of characters that take no cell: they change the one before."""
_WIDE = {"W", "F"}
RESET = "\x1b[0m"
RED, DIM, BOLD = "31", "2", "1"
_BARS = {"stdout": ("│", DIM), "stderr": ("┃", RED)}


def has_colours(choice: str, environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Tell whether to print colours. `choice`: `always`, `never` or `auto`."""
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal and environment.get("TERM") != "dumb"


def colour_of(process_id: str) -> str:
    """Return the colour of a process, one of twelve: its id alone decides."""
    return str(_COLOURS[zlib.crc32(process_id.encode()) % len(_COLOURS)])


def paint(text: str, code: str) -> str:
    """Return text in a colour."""
    return f"\x1b[{code}m{text}{RESET}"


def printable(text: str, *, colours: bool) -> str:
    r"""Return a line of output for a terminal: only its colours pass, and other controls are shown, as ␛ or \u202e.

    `colours`: False: colours do not pass either, and are left out.
    """
    text = text.removesuffix("\r").expandtabs()
    if text.isascii() and text.isprintable():
        return text
    shown, end, painted = [], 0, False
    for match in _SGR.finditer(text):
        shown.append(_show(text[end : match.start()]))
        if colours:
            shown.append(match[0])
            painted = True
        end = match.end()
    shown.append(_show(text[end:]))
    return "".join(shown) + (RESET if painted else "")


def without_colours(text: str) -> str:
    """Return text without escape sequences for colours."""
    return _SGR.sub("", text) if "\x1b" in text else text


def _show(text: str) -> str:
    return escape("".join(_picture(character) for character in text))


def _picture(character: str) -> str:
    number = ord(character)
    if number <= _ESC or number < ord(" "):
        return chr(_PICTURES + number)
    return "\N{SYMBOL FOR DELETE}" if number == _DEL else character


def cells(text: str) -> int:
    """Return the number of cells that printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in _JOINS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def cut(text: str, width: int) -> str:
    """Return text that takes at most `width` cells; what is left out is shown by an ellipsis."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += _cells_of(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return text with blanks up to `width` cells, behind it or, with `right`, before it."""
    blanks = " " * max(0, width - cells(text))
    return blanks + text if right else text + blanks


def screen_width(environment: Mapping[str, str]) -> int:
    """Return the columns of the terminal."""
    if environment.get("COLUMNS", "").isdecimal():
        return int(environment["COLUMNS"])
    for fd in (1, 2, 0):
        try:
            return os.get_terminal_size(fd).columns or 80
        except OSError:
            continue
    return 80


def bar_of(stream: str, *, colours: bool) -> str:
    """Return the bar behind the name of a process: a thick one marks standard error."""
    bar, colour = _BARS[stream]
    return paint(bar, colour) if colours else bar
