"""Results in each form: a table for people, JSON, JSON lines, CSV or ids for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.cli.terminal import BOLD, DIM, cells, cut, pad, paint
from outlast.linux.messages import ACTING, escape

FORMS = ("table", "wide", "json", "jsonl", "csv", "id")
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: head of the column.
        right: whether numbers stand at the right.
        is_wide: whether it is shown only in the form `wide`.
        leaves: rank by which it is left out of a narrow screen, the highest first; 0: never.
        gives: whether it is cut, to a few cells, before others are.
    """

    title: str
    right: bool = False
    is_wide: bool = False
    leaves: int = 0
    gives: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells, and the object that programs get. `is_past`: shown dimly."""

    cells: Sequence[str]
    record: Mapping[str, Any]
    id: str
    is_past: bool = False


def show(form: str, columns: Sequence[Column], rows: Iterable[Row], width: int | None, *, colours: bool) -> str:
    """Return rows in a form. `width`: columns of the terminal; None: nothing is cut."""
    if form == "json":
        return as_json([row.record for row in rows])
    if form == "jsonl":
        return "\n".join(as_json(row.record) for row in rows)
    if form == "id":
        return "\n".join(row.id for row in rows)
    if form == "csv":
        return _csv(rows)
    return _table(columns, list(rows), width, wide=form == "wide", colours=colours)


def show_size(number: int) -> str:
    """Return a number of bytes in at most four characters, such as `48M` or `1.2G`."""
    size, unit = float(number), 0
    while size >= _NEXT_UNIT:
        size, unit = size / _UNIT, unit + 1
    return f"{size:.1f}{_UNITS[unit]}" if unit and size < _WHOLE_FROM else f"{size:.0f}{_UNITS[unit]}"


_UNIT, _UNITS = 1024, "BKMGTPE"
_NEXT_UNIT, _WHOLE_FROM = 999.5, 9.95


def as_json(value: object, indent: int | None = None) -> str:
    """Return JSON, in which no character acts on a terminal. `indent`: of its lines; None: all is on one line."""
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split("\n")
    return "\n".join(ACTING.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in lines)


def _csv(rows: Iterable[Row]) -> str:
    import csv  # noqa: PLC0415 - only this form needs it
    import io  # noqa: PLC0415 - likewise

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row.record)
        writer.writerow([as_json(value) if isinstance(value, dict | list) else value for value in row.record.values()])
    return text.getvalue().rstrip("\n")


def _table(columns: Sequence[Column], rows: list[Row], width: int | None, *, wide: bool, colours: bool) -> str:
    """Return a table in which no line is wider than the screen: columns are left out, and the widest are cut."""
    shown = [number for number, column in enumerate(columns) if wide or not column.is_wide]
    if width is not None:
        shown = _fitting(columns, shown, rows, width)
    table = [[columns[number].title for number in shown]]
    table += [[escape(row.cells[number]) for number in shown] for row in rows]
    widths = [max(cells(line[place]) for line in table) for place in range(len(shown))]
    if width is not None:
        room = width - len(_GAP) * (len(shown) - 1)
        for place, number in enumerate(shown):
            if columns[number].gives:
                widths[place] -= min(max(0, sum(widths) - room), max(0, widths[place] - _FEW_CELLS))
        widths = _fit(widths, room)
    lines = []
    for number, line in enumerate(table):
        words = [
            pad(cut(word, widths[place]), widths[place], right=columns[shown[place]].right)
            for place, word in enumerate(line)
        ]
        text = _GAP.join(words).rstrip()
        code = BOLD if number == 0 else DIM if rows[number - 1].is_past else ""
        lines.append(paint(text, code) if colours and code else text)
    return "\n".join(lines)


def _fitting(columns: Sequence[Column], shown: list[int], rows: list[Row], width: int) -> list[int]:
    """Return the columns that a screen has room for, each with a few cells at least."""

    def least(number: int) -> int:
        needed = max([cells(columns[number].title), *(cells(row.cells[number]) for row in rows)])
        return min(needed, max(_LEAST_CELLS, cells(columns[number].title)))

    leaving = sorted((number for number in shown if columns[number].leaves), key=lambda number: columns[number].leaves)
    while leaving and sum(least(number) + len(_GAP) for number in shown) > width + len(_GAP):
        shown = [number for number in shown if number != leaving[-1]]
        leaving.pop()
    return shown


_LEAST_CELLS = 12
_FEW_CELLS = 9


def _fit(widths: list[int], room: int) -> list[int]:
    """Return widths that together take at most `room` cells: the widest column gives first."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > 1:
        place = max(range(len(widths)), key=lambda number: (widths[number], number))
        second = max((width for number, width in enumerate(widths) if number != place), default=0)
        give = min(sum(widths) - room, max(1, widths[place] - max(second, 1)))
        widths[place] -= give
    return widths
