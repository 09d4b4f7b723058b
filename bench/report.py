"""What was measured, as a table to read and as a file to keep."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.measure import Result

RESULTS = Path(__file__).parent / "results"

_VERDICTS = {True: "met", False: "missed", None: ""}


def show(result: Result) -> str:
    """Make the tables of one measure: the ratios, and the figures behind them."""
    measure = result.measure
    rounds = max(len(each) for each in result.rounds.values())
    ratios = [
        (
            f"{row.ours} {'-' if row.is_difference else '/'} {row.yardstick}" if row.yardstick else row.ours,
            row.figure,
            f"{value:.3g}" + (" x" if row.yardstick and not row.is_difference else ""),
            row.target,
            _VERDICTS[row.is_met(value)],
        )
        for row in measure.rows
        for value in [result.value(row)]
    ]
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
            f"{measure.name}: {measure.title.format(size=f'{result.size:,}')}; rounds: {rounds}",
            "",
            tabulate(ratios, ("", "of", "ratio", "target", ""), disable_numparse=True),
            "",
            tabulate(figures, ("", "figure", "median", "each round", "lacks"), disable_numparse=True),
        )
    )


def record(results: Sequence[Result], machine: Sequence[str]) -> dict[str, Any]:
    """Make what is kept of results, for JSON."""
    return {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": list(machine),
        "measures": [
            {
                "name": result.measure.name,
                "title": result.measure.title.format(size=f"{result.size:,}"),
                "rows": [
                    {
                        "ours": row.ours,
                        "yardstick": row.yardstick,
                        "figure": row.figure,
                        "value": round(value, 4),
                        "target": row.target,
                        "met": row.is_met(value),
                    }
                    for row in result.measure.rows
                    for value in [result.value(row)]
                ],
                "lacks": dict(result.measure.lacks),
                "rounds": {name: [dict(figures) for figures in each] for name, each in result.rounds.items()},
            }
            for result in results
        ],
    }


def keep(kept: dict[str, Any], folder: Path) -> Path:
    """Write a record into `folder`, named after its time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kept['taken'].replace(':', '')}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return path
