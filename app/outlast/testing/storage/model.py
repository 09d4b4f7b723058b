"""The plain model that `outlast.testing.storage.stateful` compares a storage with."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from outlast.model.output import Chunk, Position, Stream, Trimmed
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
    trimmed: Trimmed | None = None

    @property
    def mark(self) -> int:
        """Number of the last line that is trimmed."""
        return self.trimmed.last_seq if self.trimmed else 0

    def trim(self, mark: int) -> None:
        """Delete the output up to `mark`."""
        if mark == self.mark:
            return
        gone = [chunk for chunk in self.chunks if chunk.last_seq <= mark]
        texts = [line for line in whole_lines(self.chunks) if line.seq <= mark and line.text() is not None]
        self.trimmed = Trimmed(
            last_seq=mark,
            lines=len(texts),
            bytes=sum(len(chunk.data) for chunk in gone),
            until_ms=max(chunk.ts_ms for chunk in gone),
        )

    def whole_lines(self) -> "list[WholeLine]":
        """Return the lines and gaps that are not trimmed, without their parts that are."""
        lines = [line for line in whole_lines(self.chunks) if line.seq > self.mark]
        for line in lines:
            line.parts = [part for part in line.parts if part[0] > self.mark]
        return lines

    def print(self, chunk: Chunk) -> Chunk:
        """Append the next chunk to the model, and return it."""
        self.latest_ms = max(self.latest_ms, chunk.ts_ms)
        self.lines += [Line(seq, chunk.stream, self.latest_ms, text) for seq, text in numbered(chunk)]
        self.chunks.append(chunk)
        return chunk


@dataclass(slots=True)
class WholeLine:
    """A line with its parts, of which most lines have one, or a gap.

    Attributes:
        run: number of the run.
        stream: the stream.
        parts: numbers and bytes of the parts. A gap has None in place of bytes.
        ts_ms: time of the last part.
        latest_ms: latest time of the process up to the last part.
    """

    run: int
    stream: Stream
    parts: list[tuple[int, bytes | None]] = field(default_factory=list)
    ts_ms: int = 0
    latest_ms: int = 0

    @property
    def seq(self) -> int:
        """Number of the line."""
        return self.parts[-1][0]

    def text(self, seen_seq: int = 0) -> bytes | None:
        """Return the line, without what a reader knows that has seen the part `seen_seq`; None for a gap."""
        earlier = self.parts[:-1]  # who has seen the last part does not ask for the line
        known = max((n for n, (seq, _) in enumerate(earlier, 1) if seq == seen_seq), default=0)
        texts = [text for _, text in self.parts[known:]]
        return None if None in texts else b"".join(text for text in texts if text is not None)


def whole_lines(chunks: Iterable[Chunk]) -> list[WholeLine]:
    """Return the lines and gaps of a process, in order, by a plain algorithm. `chunks` is all of its output."""
    lines: list[WholeLine] = []
    latest_ms = 0
    for chunk in chunks:
        latest_ms = max(latest_ms, chunk.ts_ms)
        for seq, text in numbered(chunk):
            line = WholeLine(chunk.run, chunk.stream)
            if chunk.continues and seq == chunk.first_seq:
                line = next(line for line in lines if line.parts[0][0] == chunk.continues)
                lines.remove(line)
            line.parts.append((seq, text))
            line.ts_ms, line.latest_ms = chunk.ts_ms, latest_ms
            lines.append(line)
    return lines


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
