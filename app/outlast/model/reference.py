"""Texts that name a process by a number: a pid (`4711`) or a handle (`@12`)."""

_PID_DIGITS = 10
_HANDLE_DIGITS = 18  # 64 bits hold each such number
_HANDLE_SIGN = "@"


def pid_in(text: str) -> int | None:
    """Return the pid that a text of digits names, 0 if it is larger than any; None: the text has something else."""
    return _number(text, _PID_DIGITS)


def handle_in(text: str) -> int | None:
    """Return the handle that `@` and digits name, 0 if it is larger than any; None: the text is something else."""
    return _number(text[1:], _HANDLE_DIGITS) if text.startswith(_HANDLE_SIGN) else None


def handle_text(handle: int) -> str:
    """Return the text that names a handle."""
    return f"{_HANDLE_SIGN}{handle}"


def _number(text: str, most_digits: int) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) <= most_digits else 0
