"""Reading output backwards: the last lines before one of them, a page at a time, each page oldest first."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import NotFound
from outlast.model.output import Chunk, ChunkQuery
from outlast.storage import Storage

_READ_BYTES = 1 << 20
_BLOCK_LINES = 4096
"""Lines that are searched at a time, from the newest block to the oldest."""

Select = Callable[[Chunk], Awaitable[Sequence[int]]]
"""Function that returns the numbers of the lines of a chunk that match, ascending."""


async def read_before(
    storage: Storage, handle: int, where: OutputQuery, before: int, limit: int | None, select: Select | None
) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks from the first line of a page to `before`, with whole lines, in order.

    Args:
        storage: the store.
        handle: handle of the process.
        where: which lines to read; without `tail` and `until_ms`.
        before: number of the first line that is not wanted.
        limit: number of matching lines of the page, counted back from `before`; None: all.
        select: which lines match; None: all.

    Raises:
        StorageUnavailable: the store cannot be read now.
        NotFound: the process was purged, perhaps before all of the page was read.
    """
    query = ChunkQuery(
        handle=handle,
        max_bytes=_READ_BYTES,
        stream=where.stream,
        since_ms=where.since_ms,
        whole_lines=True,
        seen_seq=where.after,
    )
    start = where.after if limit is None else await _page_start(storage, query, before, limit, select)
    async for chunk in _chunks_between(storage, query, start, before):
        yield chunk
    if await storage.process(handle) is None:
        raise NotFound("the process was purged while its output was read")


async def _page_start(storage: Storage, query: ChunkQuery, before: int, limit: int, select: Select | None) -> int:
    """Return the number after which the last `limit` matching lines before `before` begin."""
    oldest = query.seen_seq
    if query.since_ms is not None:
        first = await storage.chunks(replace(query, max_bytes=1))
        oldest = max(oldest, first[0].first_seq - 1 if first else before)
    if select is None or limit == 0:
        return max(oldest, await storage.tail(query.handle, limit, stream=query.stream, before=before))
    end = before
    while end - 1 > oldest:
        start = max(oldest, await storage.tail(query.handle, _BLOCK_LINES, stream=query.stream, before=end))
        numbers: list[int] = []
        async for chunk in _chunks_between(storage, query, start, end):
            numbers += await select(chunk)
        if len(numbers) >= limit:
            return numbers[-limit] - 1
        limit -= len(numbers)
        end = start + 1
    return oldest


async def _chunks_between(storage: Storage, query: ChunkQuery, after: int, before: int) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of a query from after one number to before another."""
    while chunks := await storage.chunks(replace(query, after_seq=after)):
        for chunk in chunks:
            if chunk.first_seq >= before:
                return
            yield chunk.first(before - chunk.first_seq)
        after = chunks[-1].last_seq
