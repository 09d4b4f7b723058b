"""`outlast sql`: ask the store, whether or not a daemon runs."""

import csv
import io
import json
from typing import Any

from tabulate import tabulate

from outlast.config import Settings
from outlast.model.errors import InvalidRequest
from outlast.model.sql import SqlQuery
from outlast.storage import storage_from_url


async def ask(settings: Settings, question: SqlQuery, form: str) -> tuple[str, bool]:
    """Return the answer as text (`form`: table, json or csv), and whether there were more rows.

    Raises:
        OutlastError: the query can't be answered, or not in this form; the sentence says why.
    """
    storage = storage_from_url(settings.storage_url, durable=settings.durable)
    answer = json.loads(await storage.sql(question))
    columns, rows = answer["columns"], answer["rows"]
    cells = [[_cell(cell) for cell in row] for row in rows]
    if form == "json":
        _check_names(columns)
        text = "\n".join(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
    elif form == "csv":
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([columns, *cells])
        text = lines.getvalue().rstrip("\n")
    else:
        text = tabulate(cells, columns, tablefmt="simple", disable_numparse=True)
    return text, answer["truncated"]


def _check_names(columns: list[str]) -> None:
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(
            f"two columns are named {twice!r}, and a JSON object holds one: rename one with AS, or take --format csv"
        )


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
