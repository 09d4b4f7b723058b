"""Trimming: the oldest output of a process is deleted when it is old, or when there is too much of it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.retention.account import Account
from outlast.core.retention.pace import STUCK_S, rest_after
from outlast.core.retention.policy import RetentionPolicy
from outlast.model.clock import now_ms
from outlast.model.event import EventType
from outlast.model.output import Chunk
from outlast.model.retention import Holding, HoldingQuery, Rule, TrimQuery
from outlast.storage import AddEvent, Change, Storage, TrimOutput

_EVENT_MS = 60_000
_PAGE = 100
_DUE_PART = 100
_KEPT_PERCENT = 90
_TOGETHER = 16
"""Number of processes that are trimmed in one commit: it looks at up to 512 rows of each, for half a millisecond."""


class OutputTrimmer:
    """The trims of one daemon."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        chunk_cache: ChunkCache,
        policy: RetentionPolicy,
        account: Account,
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._chunk_cache = chunk_cache
        self._policy = policy
        self._account = account
        self._written: Counter[int] = Counter()
        self._written_bytes = 0
        self._own_bytes: dict[int, int] = {}
        self._has_looked_at_all = False
        self._told_ms = 0
        self._told: set[int] = set()

    def record_commit(self, changes: Iterable[Change]) -> bool:
        """Count what is written. Return whether that is a hundredth of a limit, so that it is time for a look."""
        is_due = False
        for change in changes:
            if isinstance(change, Chunk):
                size = len(change.data)
                self._written_bytes += size
                self._written[change.handle] += size
                limit = self._own_bytes.get(change.handle, self._policy.process_bytes)
                is_due |= 0 < limit <= self._written[change.handle] * _DUE_PART
        return is_due or 0 < self._policy.total_bytes <= self._written_bytes * _DUE_PART

    async def trim(self) -> None:
        """Delete what is over a limit now."""
        self._written_bytes = 0
        written, self._written = self._written, Counter()
        await self._trim_by_own_limits()
        if self._policy.output_ms:
            await self._trim_old()
        if self._policy.process_bytes:
            await self._trim_large(written)
        if self._policy.total_bytes:
            await self._trim_total()

    async def _trim_by_own_limits(self) -> None:
        """Trim the processes whose start says how much, or how long, is kept."""
        own_bytes: dict[int, int] = {}
        page: Sequence[Holding] = ()
        query = HoldingQuery(limit=_PAGE)
        while page := await self._storage.holdings(query):
            for holding in page:
                keep = holding.keep
                if keep is None:
                    continue
                if keep.bytes is not None:
                    own_bytes[holding.handle] = keep.bytes
                if keep.output_s:
                    await self._trim_older(holding.handle, now_ms() - keep.output_s * 1000)
                if keep.bytes:
                    await self._trim_to(holding.handle, holding.bytes, keep.bytes)
            query = HoldingQuery(limit=_PAGE, after_handle=page[-1].handle)
        self._own_bytes = own_bytes

    async def _trim_old(self) -> None:
        before_ms = now_ms() - self._policy.output_ms
        stuck: set[int] = set()
        while True:
            query = HoldingQuery(rule=Rule.OUTPUT_S, before_ms=before_ms, limit=_PAGE + len(stuck))
            found = [holding for holding in await self._storage.holdings(query) if holding.handle not in stuck]
            if not found:
                return
            for holding in found:
                await self._trim_older(holding.handle, before_ms)
                stuck.add(holding.handle)  # once is enough: what is left is younger

    async def _trim_large(self, written: Iterable[int]) -> None:
        """Trim the processes that have written since the last look; at the first look, all."""
        limit = self._policy.process_bytes
        if not self._has_looked_at_all:
            self._has_looked_at_all = True
            seen: set[int] = set()
            while True:
                query = HoldingQuery(rule=Rule.PROCESS_BYTES, above_bytes=limit, limit=_PAGE + len(seen))
                found = [holding for holding in await self._storage.holdings(query) if holding.handle not in seen]
                if not found:
                    return
                for holding in found:
                    await self._trim_to(holding.handle, holding.bytes, limit)
                    seen.add(holding.handle)
        for handle in written:
            if handle not in self._own_bytes:
                await self._trim_to(handle, await self._storage.held_bytes(handle), limit)

    async def _trim_to(self, handle: int, held_bytes: int, limit: int) -> None:
        if held_bytes > limit:
            goal = held_bytes - limit * _KEPT_PERCENT // 100
            await self._cut(Rule.PROCESS_BYTES, TrimQuery(handle=handle, free_bytes=goal))

    async def _trim_older(self, handle: int, before_ms: int) -> None:
        await self._cut(Rule.OUTPUT_S, TrimQuery(handle=handle, before_ms=before_ms))

    async def _trim_total(self) -> None:
        """Trim the processes that hold most, down to the same size. The ends of last runs go last."""
        limit = self._policy.total_bytes
        total = await self._storage.held_bytes()
        if total <= limit:
            return
        excess = total - limit * _KEPT_PERCENT // 100
        for spares_end in (True, False):
            stuck: set[int] = set()
            while excess > 0:
                query = HoldingQuery(rule=Rule.TOTAL_BYTES, above_bytes=0, limit=_PAGE + len(stuck))
                found = [holding for holding in await self._storage.holdings(query) if holding.handle not in stuck]
                if not found:
                    break
                excess -= await self._level(found, excess, stuck, spares_end=spares_end)

    async def _level(self, found: Sequence[Holding], excess: int, stuck: set[int], *, spares_end: bool) -> int:
        """Trim the largest of `found` down to the same size, and return how many bytes went.

        Those of a few processes are committed together: each commit brings more of a flood, too.
        """
        losses = list(zip(found, losses_of([holding.bytes for holding in found], excess), strict=False))
        freed = 0
        for start in range(0, len(losses), _TOGETHER):
            queries = [
                TrimQuery(handle=holding.handle, free_bytes=loss, spares_end=spares_end, takes_all=not spares_end)
                for holding, loss in losses[start : start + _TOGETHER]
                if loss
            ]
            counts = await asyncio.gather(*(self._cut(Rule.TOTAL_BYTES, query) for query in queries))
            stuck.update(query.handle for query, count in zip(queries, counts, strict=True) if not count)
            freed += sum(counts)
            if freed >= excess:
                break
        return freed

    async def _cut(self, rule: Rule, query: TrimQuery) -> int:
        """Delete output in small steps, and return how many bytes went."""
        freed = 0
        while True:
            left = None if query.free_bytes is None else query.free_bytes - freed
            if left is not None and left <= 0:
                return freed
            step = TrimQuery(
                handle=query.handle,
                free_bytes=left,
                before_ms=query.before_ms,
                spares_end=query.spares_end,
                takes_all=query.takes_all,
            )
            count = await rest_after(self._cut_step(rule, step))
            if not count:
                return freed
            self._account.add(rule, count)
            freed += count

    async def _cut_step(self, rule: Rule, query: TrimQuery) -> int:
        point = await self._storage.trim_point(query)
        process = None if point is None else await self._storage.process(query.handle)
        if point is None or process is None:
            return 0
        now = now_ms()
        self._tell(query.handle, process.run.number, now - now % _EVENT_MS)
        trim = self._committer.stored(TrimOutput(query.handle, point.upto_seq, now, rule))
        await asyncio.wait([trim], timeout=STUCK_S)
        if not trim.done():
            return 0
        self._chunk_cache.forget(query.handle, point.upto_seq)
        return point.bytes

    def _tell(self, handle: int, run: int, minute_ms: int) -> None:
        """Add an event, once in a minute: also after a restart, because a store adds equal events once."""
        if minute_ms != self._told_ms:
            self._told_ms = minute_ms
            self._told.clear()
        if handle not in self._told:
            self._told.add(handle)
            self._committer.submit(AddEvent(handle, run, EventType.TRIMMED, minute_ms))


def losses_of(sizes: Sequence[int], excess: int) -> list[int]:
    """Return what each of the first `sizes`, largest first, has to lose so that together they lose `excess`.

    Those that lose something are of the same size then, and none of the others is larger.
    """
    total = 0
    for count, size in enumerate(sizes, start=1):
        total += size
        following = sizes[count] if count < len(sizes) else 0
        if total - count * following >= excess:
            level = max(0, total - excess) // count
            return [size - level for size in sizes[:count]]
    return list(sizes)
