"""The field `tty` of a start, and the size of a terminal."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Lenient
from outlast.model.options import Terminal
from outlast.model.process import OutputMode, StdinMode

MAX_ROWS, MAX_COLS = 500, 1000
_TERMINAL = Terminal()
_ONLY = {"stdin_mode": StdinMode.PIPE, "stdout_mode": OutputMode.CAPTURE, "stderr_mode": OutputMode.CAPTURE}


def rows(**kwargs: Any) -> fields.Integer:
    """Return the field of a terminal's height."""
    return fields.Integer(metadata={"description": f"Height. It is cut to 1 to {MAX_ROWS}."}, **kwargs)


def cols(**kwargs: Any) -> fields.Integer:
    """Return the field of a terminal's width."""
    return fields.Integer(metadata={"description": f"Width. It is cut to 1 to {MAX_COLS}."}, **kwargs)


class SizeBody(Lenient):
    """Size of a terminal, whatever is asked for cut to what a terminal can have. Loads as a `Terminal`."""

    rows = rows(load_default=_TERMINAL.rows)
    cols = cols(load_default=_TERMINAL.cols)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return make_terminal(data)


class TerminalBody(SizeBody):
    """`tty` of a start. Loads as a `Terminal`."""


def make_terminal(data: Mapping[str, Any]) -> Terminal:
    """Return the terminal that `rows` and `cols` ask for."""
    return Terminal(rows=min(max(data["rows"], 1), MAX_ROWS), cols=min(max(data["cols"], 1), MAX_COLS))


def check_modes(given: Mapping[str, Any]) -> None:
    """Check that a start with a terminal asks for no other standard input, output or error.

    Raises:
        ValidationError: it does.
    """
    wrong = [name for name, mode in _ONLY.items() if given.get(name, mode) is not mode]
    if wrong:
        raise ValidationError(
            {name: ["must be left out, because the terminal of `tty` takes its place"] for name in wrong}
        )
