"""Reports of a bench: tables to read and files to keep."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.measure import Measure, Result

Record = Mapping[str, Any]
"""Content of the JSON file of a bench: `taken`, `machine`, and of each of `measures` the rows and rounds."""

_HEADERS = ("measure", "compared", "of", "ratio", "target", "")
_VERDICTS = {True: "met", False: "missed", None: ""}


def show(result: Result) -> str:
    """Make the tables of one measure: the ratios, and the figures behind them."""
    measure = result.measure
    rounds = max(len(each) for each in result.rounds.values())
    figures = [
        (
            name if not first else "",
            figure,
            f"{result.median(name, figure):,.4g}",
            "  ".join(f"{figures[figure]:,.4g}" for figures in each),
            measure.lacks.get(name, "") if not first else "",
        )
        for name, each in result.rounds.items()
        for first, figure in enumerate(each[0])
    ]
    return "\n".join(
        (
            "",
            f"{measure.name}: {_title(result)}; rounds: {rounds}",
            *(f"left out: {_left_out(name, why)}" for name, why in measure.left_out.items()),
            "",
            tabulate(map(cells, _rows(result)), _HEADERS[1:], disable_numparse=True),
            "",
            tabulate(figures, ("", "figure", "median", "each round", "lacks"), disable_numparse=True),
        )
    )


def record(results: Sequence[Result], machine: Sequence[str]) -> Record:
    """Return the record of results, for JSON."""
    return {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": list(machine),
        "measures": [
            {
                "name": result.measure.name,
                "title": _title(result),
                "rows": _rows(result),
                "lacks": _lacks(result.measure),
                "left_out": dict(result.measure.left_out),
                "rounds": {name: [dict(figures) for figures in each] for name, each in result.rounds.items()},
            }
            for result in results
        ],
    }


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return the texts of a row: what is compared, figure, value, target, verdict."""
    ours, yardstick, value = row["ours"], row["yardstick"], f"{row['value']:.3g}"
    sign, unit = ("-", "") if row["is_difference"] else ("/", " x")
    return (
        f"{ours} {sign} {yardstick}" if yardstick else ours,
        row["figure"],
        f"{value}{unit}" if yardstick else value,
        row["target"],
        _VERDICTS[row["met"]],
    )


def summary(kept: Record, style: str = "simple") -> str:
    """Make the one table of all rows, in a style of tabulate's."""
    rows = [(measure["name"], *cells(row)) for measure in kept["measures"] for row in measure["rows"]]
    table: str = tabulate(rows, _HEADERS, tablefmt=style, disable_numparse=True)
    return table


def keep(kept: Record, folder: Path) -> list[Path]:
    """Write a record into `folder`, as JSON and to be read, both named after its time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / kept["taken"].replace(":", "")
    texts = {path.with_suffix(".json"): json.dumps(kept, indent=1) + "\n", path.with_suffix(".md"): _page(kept)}
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    return list(texts)


def _page(kept: Record) -> str:
    """Make the page in Markdown: the table, and what is to be known about it."""
    notes = [
        f"- **{measure['name']}**: {measure['title']}."
        + "".join(f"\n  - {name} lacks: {what}" for name, what in measure["lacks"].items())
        + "".join(f"\n  - left out: {_left_out(name, why)}" for name, why in measure["left_out"].items())
        for measure in kept["measures"]
    ]
    return "\n".join(
        (
            f"# Measured at {kept['taken']}",
            "",
            *(f"    {line}" for line in kept["machine"]),
            "",
            summary(kept, "github"),
            "",
            "A ratio is the median of each round's. All rounds are in the JSON file beside this one.",
            "",
            *notes,
            "",
        )
    )


def _rows(result: Result) -> list[dict[str, Any]]:
    return [
        {**asdict(row), "target": row.target, "value": float(f"{value:.4g}"), "met": row.is_met(value)}
        for row in result.measure.rows
        for value in [result.value(row)]
    ]


def _title(result: Result) -> str:
    return result.measure.title.format(size=f"{result.size:,}")


def _left_out(name: str, why: str) -> str:
    return f"{name} ({why})"


def _lacks(measure: Measure) -> dict[str, str]:
    return {name: what for name, what in measure.lacks.items() if name not in measure.left_out}
