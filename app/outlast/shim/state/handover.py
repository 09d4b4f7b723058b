"""A process as it is told to another program: to the daemon, to a shim that takes over, or to this one's next version.

A description is JSON and a list of file descriptors, in this order: pidfd; of a start whose outcome is not known, its
gate (if it is shut), outcome and report; standard input; then for each stream its pipe and its segments. What is not
there (any more) is left out, and the JSON says what is there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from outlast.shim.state.buffer import Segment, StreamBuffer
from outlast.shim.state.child import BufferUsage, Child, Frame, PendingInput


def describe(child: Child) -> tuple[dict[str, Any], list[int]]:
    """Describe what a daemon must know to look after a process, and to hand it over."""
    streams = [
        {
            "stream": stream,
            "open": buffer.pipe is not None,
            "let_go": buffer.let_go,
            "segments": [(segment.start, segment.path) for segment in buffer.segments],
        }
        for stream, buffer in child.streams.items()
    ]
    description = {
        "slot": child.slot,
        "record": child.record,
        "pid": child.pid,
        "started_at_ms": child.started_at_ms,
        "group": child.group,
        "has_pidfd": child.pidfd >= 0,
        "is_waiting": child.gate >= 0,
        "is_starting": child.outcome >= 0,
        "failed": child.failed,
        "timeout_ms": child.timeout_ms,
        "deadline_ms": child.deadline_ms,
        "stdin_open": child.stdin is not None,
        "exited": child.exited,
        "streams": streams,
        "frames": [_frame(frame) for frame in (*child.unacked, *child.unsent) if frame.size],
    }
    return description, list(_fds(child))


def _fds(child: Child) -> Iterator[int]:
    if child.pidfd >= 0:
        yield child.pidfd
    yield from (fd for fd in (child.gate, child.outcome, child.report) if fd >= 0)
    if child.stdin is not None:
        yield child.stdin
    for buffer in child.streams.values():
        if buffer.pipe is not None:
            yield buffer.pipe
        yield from (segment.fd for segment in buffer.segments)


def restore(slot: int, description: dict[str, Any], fds: Sequence[int], room: BufferUsage) -> Child:
    """Make a process from its description.

    Args:
        slot: its number here.
        description: as `describe` makes it, with `frames` ([stream, ts_ms, offset, size], in order), `ends` (those
            of streams that have ended, likewise). Bytes that are in the segments behind the last frame were read
            when their file was last written to.
        fds: as `describe` orders them; they belong to the process from now on.
        room: where its output is counted.
    """
    left = iter(fds)
    child = Child(slot, description["record"], description["group"], room)
    child.pid, child.started_at_ms = description["pid"], description["started_at_ms"]
    child.pidfd = next(left) if description["has_pidfd"] else -1
    child.gate = next(left) if description["is_waiting"] else -1
    if description["is_starting"]:
        child.outcome, child.report = next(left), next(left)
    child.stdin = next(left) if description["stdin_open"] else None
    child.exited = description["exited"]
    child.failed = description["failed"]
    child.timeout_ms, child.deadline_ms = description["timeout_ms"], description["deadline_ms"]
    child.reaped = child.exited is not None or child.failed is not None
    child.started = not description["is_starting"] and child.failed is None
    for told in description["streams"]:
        pipe = next(left) if told["open"] else None
        segments = [Segment(next(left), start, path) for start, path in told["segments"]]
        child.streams[told["stream"]] = StreamBuffer(pipe, segments, let_go=told["let_go"])
    child.restore_frames([Frame(*frame) for frame in description["frames"]], [Frame(*e) for e in description["ends"]])
    return child


def full_state(child: Child) -> tuple[dict[str, Any], list[int]]:
    """Describe everything about a process that no daemon is attached to, for this program's next version."""
    description, fds = describe(child)
    return {
        **description,
        "adopted": child.adopted,
        "ends": [_frame(frame) for frame in child.ends],
        "close_stdin_after_input": child.close_stdin_after_input,
        "input": [bytes(pending.data).hex() for pending in child.input],
    }, fds


def restore_full(state: dict[str, Any], fds: Sequence[int], room: BufferUsage) -> Child:
    """Make a process from what `full_state` said."""
    child = restore(state["slot"], state, fds, room)
    child.adopted = state["adopted"]
    child.close_stdin_after_input = state["close_stdin_after_input"]
    child.input.extend(PendingInput(None, memoryview(bytes.fromhex(data))) for data in state["input"])
    return child


def _frame(frame: Frame) -> list[int]:
    return [frame.stream, frame.ts_ms, frame.offset, frame.size]
