"""The part of its output that shows the screen of a program which has run for long.

All output from its beginning would do, and may be gigabytes. Instead, the emulator gets the last part of the output,
from where the screen was cleared on, and before it the modes that were set until then.
"""

import re

_CLEARED = re.compile(rb"\x1bc|\x1b\[(?:1;1)?[Hf]\x1b\[[02]?J|\x1b\[2J|\x1b\[\?(?:1049|1047)h")
"""Sequences that leave a screen without text: a reset, a clear, a switch to the other screen."""
_STATE = re.compile(
    rb"\x1b\[\?(?P<modes>[0-9;]+)(?P<is_set>[hl])"
    rb"|(?P<region>\x1b\[[0-9;]*r)"
    rb"|\x1b\[(?P<look>[0-9;:]*)m"
    rb"|(?P<keypad>\x1b[=>])"
    rb"|\x1b(?P<slot>[()])(?P<charset>[A-Za-z0-9])"
    rb"|(?P<reset>\x1bc)"
)
"""Sequences that change how later output is shown, or what keys send."""
_BLANK = b"\x1b[0m\x1b[H\x1b[2J"
_MAX_LOOKS = 16


def tail(output: bytes, max_bytes: int) -> bytes:
    """Return at most about `max_bytes` that show the screen which all of `output` shows, as far as they can.

    They begin where the screen is cleared, if that is anywhere within the last `max_bytes`, else at a line.
    """
    begin = len(output) - max_bytes
    if begin <= 0:
        return output
    cleared = _CLEARED.search(output, begin)
    start = cleared.start() if cleared else output.find(b"\n", begin) + 1 or begin
    return _BLANK + _state(output[:start]) + output[start:]


class _State:
    """The modes in which output leaves an emulator."""

    def __init__(self) -> None:
        self.modes: dict[bytes, bytes] = {}
        self.charsets: dict[bytes, bytes] = {}
        self.region = self.keypad = b""
        self.looks: list[bytes] = []

    def add_look(self, look: bytes) -> None:
        """Add colors and the like to those before, unless they begin with a reset."""
        if look.split(b";")[0] in {b"", b"0"}:
            self.looks.clear()
        self.looks = [*self.looks[-_MAX_LOOKS:], look]

    def to_bytes(self) -> bytes:
        """Return what puts an emulator into these modes."""
        parts = [b"\x1b[?" + mode + is_set for mode, is_set in self.modes.items()]
        parts += [b"\x1b" + slot + charset for slot, charset in self.charsets.items()]
        home = b"\x1b[H" if self.region else b""
        return b"".join([*parts, self.region, home, self.keypad, *(b"\x1b[" + look + b"m" for look in self.looks)])


def _state(output: bytes) -> bytes:
    """Return what puts an emulator into the modes in which `output` leaves it."""
    state = _State()
    for found in _STATE.finditer(output):
        kind = found.lastgroup
        if kind == "is_set":
            state.modes.update(dict.fromkeys(found["modes"].split(b";"), found["is_set"]))
        elif kind == "look":
            state.add_look(found["look"])
        elif kind == "region":
            state.region = found["region"]
        elif kind == "keypad":
            state.keypad = found["keypad"]
        elif kind == "charset":
            state.charsets[found["slot"]] = found["charset"]
        else:
            state = _State()
    return state.to_bytes()
