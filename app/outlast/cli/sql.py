"""`outlast sql`: run a query on the store, with or without a running daemon."""

import csv
import io
import json
from typing import Any

from tabulate import tabulate

from outlast.cli.tables import as_json
from outlast.config import Settings
from outlast.linux.messages import escape
from outlast.model.errors import InvalidRequest
from outlast.model.sql import SqlQuery
from outlast.storage import storage_from_url


async def run_query(settings: Settings, query: SqlQuery, form: str, *, for_terminal: bool) -> tuple[str, bool]:
    """Run a query and return its result as text, and whether rows were left out.

    Args:
        settings: where the store is.
        query: the query.
        form: `table`, `json` or `csv`.
        for_terminal: whether a terminal shows the text. CSV for other readers has every character as it is stored.

    Raises:
        OutlastError: the query fails, or its result does not fit the form; the sentence says why.
    """
    storage = storage_from_url(settings.storage_url, durable=settings.durable)
    answer = json.loads(await storage.sql(query))
    columns, rows = answer["columns"], answer["rows"]
    cells = [[_cell(cell) for cell in row] for row in rows]
    if form == "json":
        _check_names(columns)
        text = "\n".join(as_json(dict(zip(columns, row, strict=True))) for row in rows)
    elif form == "csv":
        lines = io.StringIO()
        table = [columns, *cells]
        csv.writer(lines, lineterminator="\n").writerows(map(_escape_row, table) if for_terminal else table)
        text = lines.getvalue().rstrip("\n")
    else:
        rows_shown = [_escape_row(row) for row in cells]
        text = tabulate(rows_shown, _escape_row(columns), tablefmt="simple", disable_numparse=True)
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


def _escape_row(row: list[Any]) -> list[Any]:
    return [escape(cell) if isinstance(cell, str) else cell for cell in row]
