"""The record of one process in the storage in memory."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from outlast.model.managed import Desired
from outlast.model.options import Keep
from outlast.model.output import Chunk, Position, Stream, Trimmed
from outlast.model.process import OutputSummary, Process, Run
from outlast.model.resize import Resize
from outlast.model.usage import RunUsage
from outlast.storage.base import EndedProcess
from outlast.storage.whole_lines import with_whole_lines

_KEEP = Keep()


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk, and the state of its process up to and including the chunk.

    Attributes:
        chunk: the chunk.
        latest_ms: the latest `ts_ms`.
        lines: `Position.lines`.
        place: place of the chunk among those of all processes.
    """

    chunk: Chunk
    latest_ms: int
    lines: int
    place: int


def _streams() -> dict[Stream | None, list[Stored]]:
    """Return the output of a process that has none, by stream and of both."""
    return {None: [], Stream.STDOUT: [], Stream.STDERR: []}


@dataclass(slots=True)
class Record:
    """A process with its earlier runs, its output, its usage and the sizes of its terminal by their times."""

    process: Process
    latest_start_ms: int
    earlier: list[Run] = field(default_factory=list)
    output: dict[Stream | None, list[Stored]] = field(default_factory=_streams)
    latest_ms: int = 0
    held_bytes: int = 0
    usage: dict[int, RunUsage] = field(default_factory=dict)
    sizes: dict[int, Resize] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    ended: EndedProcess | None = None

    @property
    def may_restart(self) -> bool:
        """Whether the process is managed, and is to run."""
        return self.process.managed is not None and self.process.managed.desired is Desired.RUNNING

    @property
    def keep(self) -> Keep:
        """Limits that the start names."""
        return self.process.spec.options.keep or _KEEP

    @property
    def trimmed(self) -> Trimmed | None:
        """Output that is deleted; None: nothing."""
        return self.process.output.trimmed

    def append(self, chunk: Chunk, position: Position, place: int) -> None:
        """Append a chunk, with which the output reaches `position`."""
        self.position = position
        self.latest_ms = max(chunk.ts_ms, self.latest_ms)
        stored = Stored(chunk, self.latest_ms, position.lines, place)
        self.output[None].append(stored)
        self.output[chunk.stream].append(stored)
        self.held_bytes += len(chunk.data)
        before = self.process.output
        summary = replace(
            before,
            lines=position.lines - (before.trimmed.lines if before.trimmed else 0),
            bytes=before.bytes + len(chunk.data),
            first_seq=before.first_seq or 1,
            last_seq=chunk.last_seq,
            latest_ms=self.latest_ms,
        )
        self.set_output(summary)

    def set_output(self, summary: OutputSummary) -> None:
        """Set the size of the output."""
        self.process = replace(self.process, output=summary)


def index_from(stored: Sequence[Stored], seq: int) -> int:
    """Return the index of the first chunk that begins at `seq` or later."""
    return bisect_left(stored, seq, key=lambda entry: entry.chunk.first_seq)


def continues(stored: Sequence[Stored], index: int) -> bool:
    """Return whether there is a chunk at `index` that continues a line."""
    return index < len(stored) and stored[index].chunk.continues > 0


def whole_lines(record: Record, chunk: Chunk, *, seen_seq: int = 0) -> Chunk | None:
    """Return a stored chunk with its lines whole, or None if no line is left. See `with_whole_lines`."""
    stored = record.output[chunk.stream]
    index = bisect_left(stored, chunk.last_seq, key=lambda entry: entry.chunk.last_seq)

    def is_continued() -> bool:
        return continues(stored, index + 1)

    def earlier_parts() -> Iterator[tuple[int, bytes]]:
        first = bisect_left(stored, chunk.continues, key=lambda entry: entry.chunk.last_seq)
        for entry in stored[first:index]:
            yield entry.chunk.last_seq, entry.chunk.lines()[-1]

    return with_whole_lines(chunk, is_continued=is_continued, earlier_parts=earlier_parts, seen_seq=seen_seq)
