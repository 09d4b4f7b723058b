"""Stored output for an answer: the newest lines, or those behind a line or a time."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from outlast.cli.mcp.quoting import LINE_CHARACTERS, ROOM, Quoted, quote_item, quote_line
from outlast.client import AsyncProcess, Gap, Line, Match

_PAGE = 100
_FIRST_SEQ = 1


class Reading:
    """Output that was read for an answer.

    Attributes:
        rows: what is shown, oldest first.
        first: number of the first line that is shown; 0: none is.
        last: number of the last one.
        has_earlier: whether there may be more before.
        has_later: whether there may be more behind.
    """

    def __init__(self, limit: int) -> None:
        self.first = self.last = 0
        self.has_earlier = self.has_later = False
        self._limit = limit
        self._count = 0
        self._quoted = Quoted()
        self._most = ROOM - 100 if limit == 1 else LINE_CHARACTERS

    @property
    def rows(self) -> list[str]:
        """The rows that are shown, oldest first."""
        return list(self._quoted.rows)

    async def newest(self, process: AsyncProcess, before: int | None, given: dict[str, Any]) -> None:
        """Read the last lines before a line, or of all. Pages are small: a line may have a million characters."""
        position = before or process.info.output.last_seq + 1
        while self._count < self._limit and position > _FIRST_SEQ:
            asked = min(_PAGE, self._limit - self._count)
            async with aclosing(process.lines(before=position, limit=asked, **given)) as lines:
                page = [item async for item in lines]
            for item in reversed(page):
                if not self._quoted.prepend(quote_item(item, self._most)):
                    self.has_earlier = True
                    return
                self._note(item, is_newer=False)
            if sum(isinstance(item, Line) for item in page) < asked:
                return
            position = self.first
        self.has_earlier = self.first > max(_FIRST_SEQ, process.info.output.first_seq)

    async def found(self, matches: AsyncGenerator[Match, None]) -> None:
        """Take what a search has found, newest first: it is quicker than reading backwards."""
        async with aclosing(matches):
            async for match in matches:
                if self._count == self._limit or not self._quoted.prepend(
                    quote_line(match.seq, match.stream, match.line, self._most)
                ):
                    self.has_earlier = True
                    return
                self._note(Line(match.seq, "", match.stream, match.timestamp), is_newer=False)

    async def behind(self, process: AsyncProcess, after: int | None, given: dict[str, Any]) -> None:
        """Read the first lines behind a line, or of a time."""
        async with aclosing(process.lines(after=after, limit=self._limit, **given)) as lines:
            async for item in lines:
                if not self._quoted.append(quote_item(item, self._most)):
                    self.has_later = True
                    return
                self._note(item, is_newer=True)
        self.has_later = self._count == self._limit

    def _note(self, item: Line | Gap, *, is_newer: bool) -> None:
        first, last = (item.first, item.last) if isinstance(item, Gap) else (item.seq, item.seq)
        self._count += isinstance(item, Line)
        if is_newer or not self.last:
            self.last = last
        if not is_newer or not self.first:
            self.first = first


async def last_rows(process: AsyncProcess, count: int) -> list[str]:
    """Return the last lines of a process, quoted."""
    await process.refresh()
    reading = Reading(count)
    await reading.newest(process, None, {})
    return reading.rows
