"""Saying where two things differ first, so that a human can see why."""

from collections.abc import Sequence
from typing import Any

_AROUND_BYTES = 40


def bytes_differ(what: str, got: bytes, wanted: bytes) -> str | None:
    """Return None, or a sentence with the first offset at which `got` is not `wanted`, and what stands there."""
    if got == wanted:
        return None
    at = _first_difference(got, wanted)
    window = slice(max(0, at - _AROUND_BYTES), at + _AROUND_BYTES)
    return (
        f"{what}: {len(got)} bytes, {len(wanted)} were written; they differ from offset {at} on: "
        f"got {got[window]!r}, wanted {wanted[window]!r}"
    )


def rows_differ(what: str, got: Sequence[Any], wanted: Sequence[Any]) -> str | None:
    """Return None, or a sentence with the first row in which `got` is not `wanted`."""
    if got == wanted:
        return None
    for number, (mine, right) in enumerate(zip(got, wanted, strict=False), 1):
        if mine != right:
            return (
                f"{what}: {len(got)} rows, {len(wanted)} wanted; row {number}: got {_cut(mine)}, wanted {_cut(right)}"
            )
    longer, which = (got, "too many") if len(got) > len(wanted) else (wanted, "missing")
    first = longer[min(len(got), len(wanted))]
    return f"{what}: {len(got)} rows, {len(wanted)} wanted; {which} from {_cut(first)} on"


def _first_difference(got: bytes, wanted: bytes) -> int:
    low, high = 0, min(len(got), len(wanted))
    while low < high:
        middle = (low + high + 1) // 2
        if got[:middle] == wanted[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(row: object) -> str:
    text = repr(row)
    return text if len(text) <= 4 * _AROUND_BYTES else f"{text[: 4 * _AROUND_BYTES]}..."
