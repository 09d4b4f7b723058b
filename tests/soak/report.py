"""The report of a soak, as text."""

from collections.abc import Iterable, Sequence

from tests.soak.soak_log import SoakLog
from tests.soak.verdict import MIB, Row, is_memory

_HEAD = ("figure", "life", "samples", "minutes", "first third", "last third", "an hour", "peak", "tolerated", "")


def table(rows: Sequence[Row]) -> str:
    """Return the rows, aligned. Flat counts from life to life are left out, but for their number."""
    shown = [row for row in rows if row.minutes or is_memory(row.figure) or not row.is_flat]
    cells = [_HEAD, *(_cells(row) for row in shown)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = []
    for line in cells:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *others]).rstrip())
    return "\n".join([*lines, f"  {len(rows) - len(shown)} counts were compared from life to life: flat"])


def _cells(row: Row) -> tuple[str, ...]:
    show = _mib if is_memory(row.figure) else _count
    bounded = row.tolerated != float("inf")
    return (
        row.figure,
        row.life,
        str(row.samples),
        f"{row.minutes:.1f}" if row.minutes else "",
        show(row.first),
        show(row.last),
        f"{'+' if row.an_hour > 0 else ''}{show(row.an_hour)}" if row.minutes else "",
        show(row.peak),
        show(row.tolerated) if bounded else "",
        ("flat" if row.is_flat else "GROWS") if bounded else "",
    )


def _mib(value: float) -> str:
    return f"{value / MIB:.1f} MiB"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def growing(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each figure that is not flat, with its growth."""
    sentences = []
    for row in rows:
        if not row.is_flat:
            show = _mib if is_memory(row.figure) else _count
            rate = f", {show(row.an_hour)} an hour" if row.minutes else ""
            sentences.append(
                f"{row.figure}, life {row.life}: from {show(row.first)} to {show(row.last)}{rate}; "
                f"tolerated: {show(row.tolerated)}"
            )
    return sentences


def idle(before: dict[str, float], after: dict[str, float]) -> str:
    """Return all figures before anything had started and after everything had ended."""
    width = max(map(len, before))
    lines = [f"  {'when nothing runs':<{width}}  {'before':>10}  {'after':>10}"]
    for name, value in before.items():
        show = _mib if is_memory(name) else _count
        lines.append(f"  {name:<{width}}  {show(value):>10}  {show(after[name]):>10}")
    return "\n".join(lines)


def doing(log: SoakLog, seconds: float) -> str:
    """Return the counts of what was done."""
    counts = sorted(log.doing.items())
    return "\n".join([f"  {name:<24}{count:>8,}" for name, count in counts] + [f"  {'seconds':<24}{seconds:>8,.0f}"])
