"""The plain model that `outlast.testing.storage.stateful` compares a storage with."""

from dataclasses import dataclass, field

from outlast.model.output import Chunk, Position, Stream
from outlast.model.process import Run
from outlast.storage.base import AddProcess
from outlast.testing.storage.samples import Output


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a gap, which has no text."""

    seq: int
    stream: Stream
    latest_ms: int
    text: bytes | None


@dataclass(slots=True)
class Model:
    """The model of a process."""

    change: AddProcess
    run: Run
    output: Output
    latest_start_ms: int
    latest_ms: int = 0
    lines: list[Line] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    def print(self, chunk: Chunk) -> Chunk:
        """Append the next chunk to the model, and return it."""
        self.latest_ms = max(self.latest_ms, chunk.ts_ms)
        self.lines += [Line(seq, chunk.stream, self.latest_ms, text) for seq, text in numbered(chunk)]
        self.chunks.append(chunk)
        return chunk


def numbered(chunk: Chunk) -> list[tuple[int, bytes | None]]:
    """Return the lines of a chunk with their sequence numbers. A gap has None in place of a line."""
    texts: list[bytes] | list[None] = [None] if chunk.gap else chunk.lines()
    return list(enumerate(texts, chunk.first_seq))


def unfinished(models: dict[int, Model]) -> dict[int, Position]:
    """Return the positions of the processes that have not ended or whose output is not complete."""
    return {
        handle: model.output.position
        for handle, model in models.items()
        if model.run.ending is None or not model.run.output_complete
    }
