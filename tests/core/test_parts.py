"""From bytes to lines: however a text is cut and flushed, and by how many daemons it is captured, lines are whole."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.output.capture import Capture
from outlast.model.output import Chunk, ChunkQuery, Position, Stream, split_lines
from outlast.storage import Storage, storage_from_url
from outlast.testing.storage.samples import added

TEXTS = st.text(alphabet=st.sampled_from("a\n\nü€😀\r"), max_size=60)
CUTS = st.lists(st.integers(1, 9), min_size=1)
STEPS = st.lists(st.sampled_from([Stream.STDOUT, Stream.STDERR, "flush", "next daemon"]), max_size=40)


class Writer:
    """A process with a text for each stream, and the daemons that capture it."""

    def __init__(self, storage: Storage, handle: int, texts: dict[Stream, str], cuts: list[int]) -> None:
        self._storage = storage
        self._handle = handle
        self._data = {stream: text.encode() for stream, text in texts.items()}
        self._cuts = cuts
        self._emitted: list[Chunk] = []
        self.capture = self._next_capture(Position())
        self._sent = dict.fromkeys(Stream, 0)

    def _next_capture(self, position: Position) -> Capture:
        return Capture(
            handle=self._handle,
            run=1,
            position=position,
            streams=set(Stream),
            known_ends={},
            emit=lambda chunk, _is_certain: self._emitted.append(chunk),
            flush_now=lambda: None,
        )

    def write(self, stream: Stream) -> None:
        self._cuts.append(self._cuts.pop(0))
        begin = self._sent[stream]
        data = self._data[stream][begin : begin + self._cuts[0]]
        if data:
            self._sent[stream] += len(data)
            self.capture.on_output(stream, 1, begin, data)

    def flush(self) -> None:
        """Do what the timer does when an unfinished line has waited long enough."""
        for stream, state in self.capture._streams.items():
            for block in state.framer.flush():
                self.capture._emit_block(stream, state, block, is_certain=False)

    async def store(self) -> None:
        chunks, self._emitted[:] = self._emitted[:], []
        await self._storage.commit(chunks)

    async def take_over(self) -> None:
        """Continue with the daemon that comes next: what is not stored is sent again."""
        await self.store()
        self.capture.stop()
        position = await self._storage.position(self._handle)
        self.capture = self._next_capture(position)
        self._sent = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}

    async def finish(self) -> None:
        for stream in Stream:
            while self._sent[stream] < len(self._data[stream]):
                self.write(stream)
            self.capture.on_end(stream)
        await self.store()
        self.capture.stop()


async def check(texts: dict[Stream, str], cuts: list[int], steps: list[Stream | str]) -> None:
    storage = storage_from_url("memory:")
    await storage.open()
    handle = await added(storage)
    writer = Writer(storage, handle, texts, cuts)
    for step in steps:
        if isinstance(step, Stream):
            writer.write(step)
        elif step == "flush":
            writer.flush()
        else:
            await writer.take_over()
    await writer.finish()
    for stream, text in texts.items():
        query = ChunkQuery(handle=handle, stream=stream, max_bytes=1 << 30)
        parts = [line.decode() for chunk in await storage.chunks(query) for line in chunk.lines()]
        assert "".join(parts) == text
    query = ChunkQuery(handle=handle, max_bytes=1 << 30, whole_lines=True)
    chunks = await storage.chunks(query)
    found: dict[Stream, list[bytes]] = {stream: [] for stream in Stream}
    for chunk in chunks:
        found[chunk.stream] += chunk.lines()
    assert found == {stream: split_lines(text.encode()) for stream, text in texts.items()}
    assert sum(map(len, found.values())) == (await storage.position(handle)).lines
    assert [chunk.first_seq for chunk in chunks] == sorted(chunk.first_seq for chunk in chunks)
    await storage.close()


@settings(deadline=None, max_examples=200)
@given(TEXTS, TEXTS, CUTS, STEPS)
def test_lines_are_whole_and_no_character_is_cut(
    stdout: str, stderr: str, cuts: list[int], steps: list[Stream | str]
) -> None:
    asyncio.run(check({Stream.STDOUT: stdout, Stream.STDERR: stderr}, list(cuts), steps))
