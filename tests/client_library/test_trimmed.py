"""Output that retention has deleted: what a client hears of it, also when it is deleted while nothing is connected."""

import contextlib
import json
from typing import Any

import pytest

from outlast import AsyncOutlast
from outlast.client import Event, Gap, Line, OutlastError
from outlast.client.running import Running
from outlast.client.stored import StoredBytes, StoredEvents
from outlast.client.subscription import Events, Follow
from outlast.model.errors import OutputTrimmed
from outlast.model.output import Stream
from outlast.model.retention import Rule
from outlast.storage import Change, TrimOutput
from outlast.testing.storage.samples import Output
from tests.client_library.test_resume import BROKEN, line, opened, run_line
from tests.support.daemon import Daemon
from tests.support.gaps import leave

GONE = {"from": 1, "to": 4, "reason": "retention", "lines": 4, "bytes": 8}
GAP = Gap(1, 4, "retention", None, 4, 8)
STARTED = b'data: {"pid":1,"started_at":5,"id":"P"}\n\n'


def gap(to: int) -> bytes:
    return b"id: %d\nevent: gap\ndata: %b\n\n" % (to, json.dumps({**GONE, "to": to}).encode())


def run_gap(to: int) -> bytes:
    data = {"gap": {**GONE, "to": to}, "timestamp": 5, "stream": "both"}
    return b"id: %d\ndata: %b\n\n" % (to, json.dumps(data).encode())


# ---- without a connection


def test_a_follow_goes_on_behind_a_gap() -> None:
    stream = Follow("/x", {})
    opened(stream)
    assert stream.feed(gap(4) + line(5)) == [GAP, Line(5, "x", "stdout", 5)]
    stream.broke(BROKEN)
    assert opened(stream).headers["Last-Event-ID"] == "5"


def test_events_that_were_deleted_are_a_gap_among_the_others() -> None:
    data: dict[str, Any] = {
        "type": "started",
        "process_id": "P",
        "name": None,
        "tags": {},
        "pid": 1,
        "run": 1,
        "timestamp": 5,
    }
    event = Event(5, "started", "P", None, {}, 1, 1, 5)
    missing = {"from": 1, "to": 4, "reason": "retention"}
    told = Events("/events", {})
    opened(told)
    texts = [b"id: 4\nevent: gap\ndata: ", b"id: 5\nevent: started\ndata: "]
    body = [text + json.dumps(each).encode() + b"\n\n" for text, each in zip(texts, (missing, data), strict=True)]
    assert told.feed(b"".join(body)) == [Gap(1, 4, "retention"), event]
    stored = StoredEvents("/events", {}, None)
    opened(stored)
    rows = ({"id": 4, "gap": missing}, {"id": 5, **data})
    assert stored.feed(b"".join(json.dumps(row).encode() + b"\n" for row in rows)) == [Gap(1, 4, "retention"), event]


def opened_behind(stream: StoredBytes, trimmed: str) -> None:
    """Connect a stream whose answer says what is deleted before it; empty: nothing."""
    stream.request()
    stream.opened(200, {"Outlast-Trimmed": trimmed} if trimmed else {}, b"")


def test_bytes_say_what_was_deleted_before_them() -> None:
    told: list[tuple[int, int]] = []
    stream = StoredBytes("/x", {}, None, lambda lines, count: told.append((lines, count)))
    opened_behind(stream, "lines=4,bytes=8")
    assert told == [(4, 8)]
    stream.feed(b"abc")
    stream.broke(BROKEN)
    opened_behind(stream, "lines=4,bytes=8")
    assert (stream.feed(b"abcd"), told) == ([b"d"], [(4, 8)])


@pytest.mark.parametrize("before", ["", "lines=2,bytes=4"])
def test_bytes_do_not_go_on_when_their_beginning_was_deleted(before: str) -> None:
    stream = StoredBytes("/x", {}, None)
    opened_behind(stream, before)
    stream.feed(b"abc")
    stream.broke(BROKEN)
    with pytest.raises(OutputTrimmed):
        opened_behind(stream, "lines=4,bytes=8")


def running_with(*lines: bytes) -> Running:
    """Return a run that has shown some lines, and whose connection is made again."""
    stream = Running(b'{"idempotency_key":"K"}', None, None)
    opened(stream)
    stream.feed(STARTED + b"".join(lines))
    stream.broke(BROKEN)
    opened(stream)
    return stream


def test_a_run_goes_on_when_lines_were_deleted_that_have_come() -> None:
    stream = running_with(*(run_line(n, str(n)) for n in range(1, 7)))
    assert stream.feed(STARTED + run_gap(4) + b"".join(run_line(n, str(n)) for n in (5, 6, 7))) == [
        Line(7, "7", "stdout", 5)
    ]


def test_a_run_tells_of_lines_that_were_deleted_before_they_came() -> None:
    stream = running_with(run_line(1, "1"), run_line(2, "2"))
    assert stream.feed(STARTED + run_gap(4) + run_line(5, "5")) == [
        Gap(3, 4, "retention", "both", 4, 8),
        Line(5, "5", "stdout", 5),
    ]


# ---- from a daemon


@pytest.fixture
async def trimmed(daemon: Daemon) -> dict[str, Any]:
    """A process that has ended, and printed 1, 2, 3 and 4, which are deleted, then `last`."""
    process = await daemon.ended(await daemon.sh("seq 4"))

    def print_and_trim(output: Output) -> list[Change]:
        last = output.chunk(b"last\n", Stream.STDERR, ts_ms=process["ended_at"] + 10_000)
        return [last, TrimOutput(process["handle"], 4, 0, Rule.OUTPUT_S)]

    await leave(daemon, process, print_and_trim)
    return process


async def test_every_reader_hears_of_it(ol: AsyncOutlast, trimmed: dict[str, Any]) -> None:
    process = await ol.process(trimmed["id"])
    gap, *lines = [item async for item in process.follow()]
    assert (gap, [item.text for item in lines if isinstance(item, Line)]) == (GAP, ["last"])
    gap, *lines = [item async for item in process.lines()]
    assert gap == Gap(1, 4, "retention", "both", 4, 8)
    assert [item.text for item in lines if isinstance(item, Line)] == ["last"]
    told: list[tuple[int, int]] = []
    chunks = [data async for data in process.byte_chunks(on_trimmed=lambda *gone: told.append(gone))]
    assert (chunks, told) == ([b"last\n"], [(4, 8)])
    output = (await process.refresh()).output
    assert output.trimmed is not None
    assert (output.trimmed.last_seq, output.trimmed.lines, output.trimmed.bytes) == (4, 4, 8)


async def test_a_search_tells_that_it_may_have_missed_lines(ol: AsyncOutlast, trimmed: dict[str, Any]) -> None:
    told: list[bool] = []
    for process, text in ((trimmed["id"], "last"), ((await ol.start("true")).id, "none")):
        async with contextlib.aclosing(
            ol.search(text, process=process, on_incomplete=lambda: told.append(True))
        ) as found:
            assert len([match async for match in found]) == (text == "last")
    assert told == [True]


async def test_a_start_says_what_is_kept_of_its_process(daemon: Daemon, ol: AsyncOutlast) -> None:
    always, limited = await ol.start("true", keep="always"), await ol.start("true", keep={"bytes": 4096})
    kept = daemon.sql("SELECT p.id, k.bytes, k.always FROM keep k JOIN process p ON p.handle = k.handle ORDER BY 2")
    assert kept == [(always.id, None, 1), (limited.id, 4096, 0)]
    with pytest.raises(OutlastError):
        await ol.start("true", keep="never")
