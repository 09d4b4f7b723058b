"""Figures of commits: what counts, and that counting costs next to nothing beside what is counted."""

import time
from collections.abc import Callable, Mapping, Sequence

from outlast.core.histogram import Histogram
from outlast.core.output.capture import Capture
from outlast.core.output.commit_stats import CommitStats
from outlast.core.output.committer import Committer
from outlast.model.clock import now_ms
from outlast.model.output import Chunk, Position, Stream
from outlast.storage.base import Change
from outlast.storage.memory import MemoryStorage
from outlast.testing.storage.samples import Output, added, end_of

CHUNKS = 2000


def test_a_bound_belongs_to_the_values_up_to_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.5, 100.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 107.0


def test_the_delay_of_each_chunk_is_counted() -> None:
    stats, output = CommitStats(), Output(1)
    old, new = now_ms() - 20_000, now_ms() + 60_000  # the clock was set back meanwhile
    stats.count_stored([output.chunk(b"a\n", ts_ms=old), output.gap(5), end_of(1), output.chunk(b"b\n", ts_ms=new)])
    assert sum(stats.delay_s.counts) == 2
    assert stats.delay_s.counts[0] == 1
    assert stats.delay_s.counts[stats.delay_s.bounds.index(30.0)] == 1


async def test_commits_and_their_errors_are_counted() -> None:
    class Failing(MemoryStorage):
        fails = False

        async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
            if self.fails:
                raise ValueError("refused")
            return await super().commit(changes)

    storage = Failing()
    handle = await added(storage)
    committer = Committer(storage)
    committer.start()
    await committer.commit(Output(handle).chunk(b"a\n"))
    assert (committer.stats.commits, committer.stats.errors) == (1, 0)
    storage.fails = True
    committer.submit(end_of(handle))
    await committer.catch_up()
    await committer.stop(0)
    assert committer.stats.commits == 1
    assert committer.stats.errors > 0
    assert sum(committer.stats.duration_s.counts) == 1 + committer.stats.errors


async def test_counting_costs_next_to_nothing_beside_cutting() -> None:
    chunks: list[Chunk] = []

    def cut() -> None:
        chunks.clear()
        capture = Capture(
            handle=1,
            run=1,
            position=Position(),
            streams=set(Stream),
            known_ends={},
            emit=lambda chunk, _: chunks.append(chunk),
            flush_now=lambda: None,
        )
        for number in range(CHUNKS):
            capture.on_output(Stream.STDOUT, 1, 17 * number, b"a line of output\n")

    cutting_s = cost_s(cut)
    assert len(chunks) == CHUNKS
    assert cost_s(lambda: CommitStats().count_stored(chunks)) < cutting_s / 5


def cost_s(work: Callable[[], object]) -> float:
    """Return the processor time of `work`, the least of several calls."""
    costs = []
    for _ in range(7):
        began = time.process_time()
        work()
        costs.append(time.process_time() - began)
    return min(costs)
