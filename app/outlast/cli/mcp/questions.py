"""The tools that ask about all processes at once: `search` and `sql`."""

import json
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import Field

from outlast.cli.mcp.arguments import CountOf, Moment, Stream, milliseconds, stream_of
from outlast.cli.mcp.quoting import Quoted, quote, quote_line
from outlast.client import AsyncOutlast, Match

_CELL_CHARACTERS = 2000
VIEWS = """ Views:
    processes(id, handle, pid, name, command, args, status, exit_code, signal, reason, started, ended, ...),
    runs(process_id, run, pid, status, exit_code, signal, started, ended, ...),
    output_lines(process_id, run, seq, time, stream, line), output_tail (the same, quick for the newest lines),
    events(id, time, type, process_id, name, run, pid, exit_code, signal, reason).
    SELECT sql FROM sqlite_master WHERE type = 'view' gives the others."""
"""End of the description of `sql`."""


class Questions:
    """Questions to one daemon."""

    def __init__(self, ol: AsyncOutlast) -> None:
        self._ol = ol

    async def search(
        self,
        text: Annotated[str, Field(min_length=1, description="Text, or with regex=true an expression of RE2.")],
        *,
        regex: bool = False,
        ignore_case: bool = False,
        name: Annotated[str | None, Field(description="Only processes with this name.")] = None,
        tags: Annotated[dict[str, str] | None, Field(description="Only processes with all these tags.")] = None,
        stream: Stream = "both",
        since: Moment = None,
        until: Moment = None,
        limit: CountOf = 50,
    ) -> str:
        """Find lines in the output of all processes, newest first, also of those that ended days ago."""
        incomplete: list[str] = []
        found = self._ol.search(
            text,
            regex=regex,
            ignore_case=ignore_case,
            name=name,
            tags=tags,
            stream=stream_of(stream),
            since=milliseconds(since),
            until=milliseconds(until),
            on_incomplete=lambda: incomplete.append("older output may have matched: a limit has deleted it"),
        )
        quoted, count, oldest = Quoted(), 0, 0
        more = ""
        async with aclosing(found) as matches:
            async for match in matches:
                if count == limit or not quoted.append(_row(match)):
                    more = f"there are more: search(.., until='@{oldest / 1000:.3f}'), or fewer by name, tags, since"
                    break
                count, oldest = count + 1, match.timestamp
        head = (
            f"{count} line{'' if count == 1 else 's'}, newest first, quoted behind |:" if count else "no line was found"
        )
        around = "around a line N: logs(ref=.., before=N+20, tail=40)" if count else ""
        return "\n".join(part for part in (head, *quoted.rows, around, more, *incomplete) if part)

    async def sql(
        self,
        query: Annotated[str, Field(min_length=1, description="One query of SQLite.")],
        *,
        parameters: Annotated[list[Any] | None, Field(description="Values for each ? in it.")] = None,
        limit: CountOf = 100,
    ) -> str:
        """Ask the store of all processes, runs, events and lines by a read-only query."""
        rows = await self._ol.sql(query, parameters or [], limit=limit)
        quoted = Quoted()
        for row in rows.rows:
            cells = [quote(cell, _CELL_CHARACTERS) if isinstance(cell, str) else cell for cell in row]
            if not quoted.append(json.dumps(cells, ensure_ascii=False)):
                break
        shown = len(quoted.rows)
        head = f"{shown} row{'' if shown == 1 else 's'} of {quote(json.dumps(list(rows.columns)), _CELL_CHARACTERS)}:"
        is_short = quoted.is_full or rows.truncated
        return "\n".join((head, *quoted.rows, *(["there are more: add LIMIT and OFFSET"] if is_short else [])))


def _row(match: Match) -> str:
    ref = quote(match.name) if match.name else f"@{match.handle}"
    return f"{ref} {quote_line(match.seq, match.stream, match.line)}"
