"""A terminal's output and sizes as a recording that players of asciicast files show (versions 2 and 3)."""

import codecs
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from outlast.core.commands.start_request import TERM
from outlast.model.errors import NotFound
from outlast.model.output import Chunk
from outlast.model.process import Process
from outlast.model.resize import Resize

VERSIONS = (2, 3)
_OUTPUT, _RESIZE, _MARKER, _EXIT = "o", "r", "m", "x"


class _Clock:
    """Times of events: since the beginning in version 2, since the event before in version 3."""

    def __init__(self, begin_ms: int, *, is_relative: bool) -> None:
        self._begin_ms = self._now_ms = begin_ms
        self._is_relative = is_relative

    def time_of(self, ts_ms: int) -> float:
        """Return the time of the next event, in seconds. It never falls, also if the clock was set back."""
        before_ms, self._now_ms = self._now_ms, max(self._now_ms, ts_ms)
        return (self._now_ms - (before_ms if self._is_relative else self._begin_ms)) / 1000


async def record(
    process: Process, chunks: AsyncGenerator[Chunk, None], sizes: Sequence[Resize], version: int
) -> AsyncIterator[bytes]:
    """Yield the lines of a recording.

    Raises:
        NotFound: the process has no terminal.
    """
    terminal = process.spec.options.terminal
    if terminal is None:
        raise NotFound("the process has no terminal, so there is no recording: read its output")
    first = await anext(chunks, None)
    begin_ms = process.run.started_at_ms
    if first is not None:
        begin_ms = min(begin_ms, first.ts_ms)
    yield _line(_header(process, begin_ms, version))
    clock = _Clock(begin_ms, is_relative=version == VERSIONS[-1])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left = list(reversed(sizes))
    chunk = first
    while chunk is not None:
        while left and left[-1].ts_ms <= chunk.ts_ms:
            yield _resize(clock, left.pop())
        if chunk.gap:
            yield _line([clock.time_of(chunk.ts_ms), _MARKER, f"output is missing: {chunk.gap}"])
        elif text := decoder.decode(chunk.data):
            yield _line([clock.time_of(chunk.ts_ms), _OUTPUT, text])
        chunk = await anext(chunks, None)
    while left:
        yield _resize(clock, left.pop())
    ending = process.run.ending
    if ending is not None and ending.exit_number is not None and version == VERSIONS[-1]:
        yield _line([clock.time_of(ending.ended_at_ms), _EXIT, str(ending.exit_number)])


def _header(process: Process, begin_ms: int, version: int) -> dict[str, Any]:
    terminal = process.spec.options.terminal
    assert terminal is not None  # noqa: S101 - the caller has looked
    term = {} if "TERM" in process.spec.env_keys else {"type": TERM}  # the values of its environment are not kept
    seconds = begin_ms // 1000
    if version == VERSIONS[-1]:
        return {"version": 3, "term": {"cols": terminal.cols, "rows": terminal.rows, **term}, "timestamp": seconds}
    environment = {"env": {"TERM": term["type"]}} if term else {}
    return {"version": 2, "width": terminal.cols, "height": terminal.rows, "timestamp": seconds, **environment}


def _resize(clock: _Clock, size: Resize) -> bytes:
    return _line([clock.time_of(size.ts_ms), _RESIZE, f"{size.cols}x{size.rows}"])


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
