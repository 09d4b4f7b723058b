"""`outlast sql`: run a query on the store, with or without a running daemon."""

import csv
import io
import json
from typing import Any

from tabulate import tabulate

from outlast.config import Settings
from outlast.model.errors import InvalidRequest
from outlast.model.sql import SqlQuery
from outlast.storage import storage_from_url


async def run_query(settings: Settings, query: SqlQuery, form: str) -> tuple[str, bool]:
    """Run a query and return its result as text, and whether rows were left out.

    Args:
        settings: where the store is.
        query: the query.
        form: `table`, `json` or `csv`.

    Raises:
        OutlastError: the query fails, or its result does not fit the form; the sentence says why.
    """
    storage = storage_from_url(settings.storage_url, durable=settings.durable)
    answer = json.loads(await storage.sql(query))
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
            f"two columns are named {twice!r}, but a JSON object can hold only one: rename one with AS, or use "
            "--format csv"
        )


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
