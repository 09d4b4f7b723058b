"""Sizes as people write and read them."""

import click

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_STEP = 1024


def size(word: str) -> int:
    """Return a number of bytes, such as 512M.

    Raises:
        click.BadParameter: it is none.
    """
    plain = word.upper().removesuffix("IB").removesuffix("B")
    number = plain.rstrip("KMG")
    if not number.isdecimal() or plain[len(number) :] not in _UNITS:
        raise click.BadParameter(f"{word!r} is not a size: give bytes, or 64K, 512M, 2G")
    return int(number) * _UNITS[plain[len(number) :]]


def show_size(count: int) -> str:
    """Return bytes with three digits at least, such as `1.45 GiB`."""
    number, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= _STEP and len(units) > 1:
        number /= _STEP
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{number:.{max(0, 3 - len(str(int(number))))}f} {units[0]}"
