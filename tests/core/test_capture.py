"""Capture: when a part of a line becomes a chunk of its own, and when it waits for its rest."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from outlast.core.output import capture as module
from outlast.core.output.capture import Capture
from outlast.core.output.line_framer import MAX_LINE_BYTES
from outlast.model.errors import ProtocolError
from outlast.model.output import Chunk, GapReason, Position, Stream, UnfinishedLine


class Emitted:
    """A capture and what it emits. `is_stored`: each chunk is stored at once."""

    def __init__(
        self, position: Position | None = None, *, is_stored: bool = False, known_ends: Mapping[Stream, int] = {}
    ) -> None:
        self._is_stored = is_stored
        self.chunks: list[Chunk] = []
        self.certain: list[bool] = []
        self.hurried = 0
        self.capture = Capture(
            handle=1,
            run=1,
            position=position or Position(),
            streams=set(Stream),
            known_ends=known_ends,
            emit=self._emit,
            flush_now=self._hurry,
        )
        self._ends = {Stream.STDOUT: 0, Stream.STDERR: 0}

    def _emit(self, chunk: Chunk, is_certain: bool) -> None:
        self.chunks.append(chunk)
        self.certain.append(is_certain)
        if self._is_stored:
            self.capture.on_stored()

    def _hurry(self) -> None:
        self.hurried += 1

    def feed(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        self.capture.on_output(stream, 1, self._ends[stream], data)
        self._ends[stream] += len(data)

    @property
    def data(self) -> list[bytes]:
        return [chunk.data for chunk in self.chunks]

    async def until(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.chunks) < count:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


async def test_a_prompt_is_emitted_without_its_newline() -> None:
    emitted = Emitted()
    started = time.monotonic()
    emitted.feed(b"name? ")
    await emitted.until(1)
    assert emitted.data == [b"name? "]
    assert time.monotonic() - started >= module.PARTIAL_LINE_S
    emitted.feed(b"you\n")
    assert emitted.data == [b"name? ", b"you\n"]
    assert [(chunk.first_seq, chunk.continues) for chunk in emitted.chunks] == [(1, 0), (2, 1)]
    emitted.capture.stop()


async def test_parts_of_both_streams_continue_their_own_lines() -> None:
    emitted = Emitted(is_stored=True)
    emitted.feed(b"out: ")
    await emitted.until(1)
    emitted.feed(b"one\nerr: ", Stream.STDERR)
    await emitted.until(3)
    emitted.feed(b"more ", Stream.STDERR)
    await emitted.until(4)
    emitted.feed(b"done\nnext\n")
    emitted.feed(b"done\n", Stream.STDERR)
    emitted.feed(b"next\n")
    assert [(chunk.data, chunk.continues) for chunk in emitted.chunks] == [
        (b"out: ", 0),
        (b"one\n", 0),
        (b"err: ", 0),
        (b"more ", 3),
        (b"done\nnext\n", 1),
        (b"done\n", 3),
        (b"next\n", 0),
    ]
    emitted.capture.stop()


async def test_a_character_waits_for_its_rest_and_nothing_checks_it_meanwhile() -> None:
    emitted = Emitted()
    emitted.feed(b"caf\xc3")
    await emitted.until(1)
    emitted.capture.on_stored()
    assert emitted.data == [b"caf"]
    assert emitted.capture._timer is None
    assert emitted.capture.is_settled([(Stream.STDOUT, 4)])
    assert not emitted.capture.is_settled([(Stream.STDOUT, 5)])
    emitted.feed(b"\xa9?")
    assert not emitted.capture.is_settled([])
    await emitted.until(2)
    emitted.capture.on_stored()
    emitted.feed(b"\n")
    assert emitted.data == [b"caf", b"\xc3\xa9?", b"\n"]
    assert [chunk.continues for chunk in emitted.chunks] == [0, 1, 1]
    emitted.capture.stop()


async def test_the_next_daemon_continues_the_line() -> None:
    emitted = Emitted(Position(last_seq=7, stdout_line=UnfinishedLine(run=1, first_seq=5, size=10)))
    emitted.feed(b"rest\n")
    emitted.feed(b"other\n", Stream.STDERR)
    assert [(chunk.first_seq, chunk.continues) for chunk in emitted.chunks] == [(8, 5), (9, 0)]
    emitted.capture.stop()


async def test_a_run_does_not_continue_the_line_of_the_run_before() -> None:
    emitted = Emitted(Position(last_seq=7, stdout_line=UnfinishedLine(run=0, first_seq=5, size=10)))
    emitted.feed(b"hello\n")
    assert [chunk.continues for chunk in emitted.chunks] == [0]
    emitted.capture.stop()


async def test_a_gap_ends_the_line() -> None:
    emitted = Emitted(Position(last_seq=7, stdout_line=UnfinishedLine(run=1, first_seq=5, size=10)))
    emitted.capture.append_gap(Stream.STDOUT, 0, GapReason.LOST)
    emitted.feed(b"line\n")
    assert [chunk.continues for chunk in emitted.chunks] == [0, 0]
    emitted.capture.stop()


async def test_a_line_in_parts_is_no_longer_than_any_other() -> None:
    begun = MAX_LINE_BYTES - 3
    emitted = Emitted(Position(last_seq=1, stdout_line=UnfinishedLine(run=1, first_seq=1, size=begun)))
    emitted.feed(b"abcdef\n")
    assert [(chunk.data, chunk.continues) for chunk in emitted.chunks] == [(b"abc", 1), (b"def\n", 0)]
    emitted.capture.stop()


async def test_a_blocked_event_loop_splits_no_line() -> None:
    """The time of the part is up, but its rest had arrived before the event loop could run."""
    emitted = Emitted()
    emitted.feed(b"one ")
    time.sleep(module.PARTIAL_LINE_S * 1.2)  # noqa: ASYNC251 - blocks the event loop on purpose
    emitted.capture._on_timer()
    emitted.feed(b"line\n")
    assert emitted.data == [b"one line\n"]
    emitted.capture.stop()


@pytest.mark.parametrize(("name", "value"), [("_BEHIND_S", 0.0), ("_BEHIND_BYTES", 6)])
async def test_no_line_is_split_while_the_store_is_behind(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    """The shim may have the rest, and wait for an acknowledgement before it sends more."""
    monkeypatch.setattr(module, name, value)
    emitted = Emitted()
    emitted.feed(b"whole\npart")
    time.sleep(module.PARTIAL_LINE_S * 1.2)  # noqa: ASYNC251 - likewise
    emitted.capture._on_timer()
    emitted.capture._on_timer()
    assert emitted.data == [b"whole\n"]
    assert emitted.hurried
    emitted.capture.on_stored()
    emitted.capture._on_timer()
    emitted.feed(b" of a line\n")
    assert emitted.data == [b"whole\n", b"part of a line\n"]
    emitted.capture.stop()


async def test_a_prompt_comes_although_the_other_stream_prints_all_the_time() -> None:
    emitted = Emitted()
    emitted.feed(b"name? ")
    deadline = time.monotonic() + 10
    while b"name? " not in emitted.data:
        assert time.monotonic() < deadline
        emitted.feed(b"busy\n", Stream.STDERR)
        await asyncio.sleep(0.005)
        while len(emitted.capture._unstored) > 1:
            emitted.capture.on_stored()
    emitted.capture.stop()


async def test_only_lines_that_are_complete_are_certain_before_they_are_stored() -> None:
    emitted = Emitted(Position(last_seq=7))
    emitted.capture.append_gap(Stream.STDOUT, 0, GapReason.LOST)
    emitted.feed(b"one\ntwo\nname? ")
    await emitted.until(3)
    emitted.feed(b"me\n")
    emitted.feed(b"x" * (MAX_LINE_BYTES + 1))
    emitted.capture.on_end(Stream.STDOUT)
    assert [len(chunk.data) for chunk in emitted.chunks] == [0, 8, 6, 3, MAX_LINE_BYTES, 1]
    assert emitted.certain == [False, True, False, True, True, False]
    emitted.capture.stop()


async def test_no_part_is_cut_where_an_earlier_daemon_had_read_on() -> None:
    emitted = Emitted(known_ends={Stream.STDERR: 3})
    emitted.feed(b"name? ")
    for _ in range(3):
        time.sleep(module.PARTIAL_LINE_S)  # noqa: ASYNC251 - likewise
        emitted.capture._on_timer()
    assert emitted.data == []
    emitted.feed(b"abc", Stream.STDERR)
    await emitted.until(2)
    assert emitted.data == [b"name? ", b"abc"]
    emitted.capture.stop()


async def test_a_prompt_after_stored_lines_is_emitted() -> None:
    emitted = Emitted()
    emitted.feed(b"whole\nname? ")
    emitted.capture.on_stored()
    await emitted.until(2)
    assert emitted.data == [b"whole\n", b"name? "]
    emitted.capture.stop()


def test_repeated_bytes_are_skipped() -> None:
    async def check() -> None:
        emitted = Emitted()
        emitted.feed(b"one\ntwo\n")
        emitted.capture.on_output(Stream.STDOUT, 1, 0, b"one\n")
        emitted.capture.on_output(Stream.STDOUT, 1, 4, b"two\nthree\n")
        assert emitted.data == [b"one\ntwo\n", b"three\n"]
        emitted.capture.stop()

    asyncio.run(check())


def test_missing_bytes_are_an_error() -> None:
    async def check() -> None:
        emitted = Emitted()
        emitted.feed(b"one\ntwo\nthree\n")
        with pytest.raises(ProtocolError):
            emitted.capture.on_output(Stream.STDOUT, 1, 15, b"x")
        emitted.capture.stop()

    asyncio.run(check())


async def test_the_end_of_a_stream_ends_its_last_line() -> None:
    emitted = Emitted()
    emitted.feed(b"last")
    emitted.feed(b"error", Stream.STDERR)
    drained = [emitted.capture.drained]
    emitted.capture.on_end(Stream.STDOUT)
    assert emitted.data == [b"last"]
    emitted.capture.on_end(Stream.STDERR)
    assert emitted.data == [b"last", b"error"]
    assert [*drained, emitted.capture.drained] == [False, True]
    assert (emitted.chunks[-1].last_seq, emitted.chunks[-1].stdout_end, emitted.chunks[-1].stderr_end) == (2, 4, 5)
    emitted.capture.stop()
