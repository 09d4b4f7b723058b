"""Describing a process to another program, and making it from a description.

The other program is the daemon, a shim that takes over, or the next version of this one.
"""

from collections.abc import Sequence
from typing import Any

from outlast.shim.state.buffer import Segment, StreamBuffer
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.frames import Frame
from outlast.shim.state.quota import BufferUsage
from outlast.wire.codec import WireError
from outlast.wire.description import ProcessDescription, ProcessFds, StreamDescription, StreamFds


def describe(child: Child) -> tuple[ProcessDescription, list[int]]:
    """Return what a daemon must know of a process, and its descriptors in their order. They stay the child's."""
    frames = [frame for frame in (*child.unacked, *child.unsent) if frame.size]
    for frame in frames:
        frame.is_fixed = True
    description = ProcessDescription(
        pid=child.pid,
        started_at_ms=child.started_at_ms,
        group=child.group,
        has_pidfd=child.pidfd >= 0,
        is_waiting=child.gate >= 0,
        is_starting=child.outcome >= 0,
        failed=child.failed,
        timeout_ms=child.timeout_ms,
        deadline_ms=child.deadline_ms,
        stdin_open=child.stdin is not None,
        exited=child.exited,
        streams=[
            StreamDescription(
                stream,
                is_open=buffer.pipe is not None,
                trimmed_to=buffer.trimmed_to,
                sent_to=buffer.sent_to,
                segments=[(segment.start, segment.path) for segment in buffer.segments],
                has_relay=bool(buffer.relay),
            )
            for stream, buffer in child.streams.items()
        ],
        frames=[frame.to_fields() for frame in frames],
    )
    streams = [
        StreamFds(buffer.pipe, [segment.fd for segment in buffer.segments], buffer.relay)
        for buffer in child.streams.values()
    ]
    fds = ProcessFds(
        pidfd=child.pidfd if child.pidfd >= 0 else None,
        start=[fd for fd in (child.gate, child.outcome, child.report) if fd >= 0],
        stdin=child.stdin,
        streams=streams,
    )
    return description, fds.in_order()


def restore(
    slot: int, record: dict[str, Any], description: ProcessDescription, fds: Sequence[int], usage: BufferUsage
) -> Child:
    """Make a process from its description.

    Args:
        slot: its number in this shim.
        record: the daemon's own description of it.
        description: with `ends`.
        fds: its descriptors in their order; they belong to the process from now on.
        usage: where its output is counted.

    Raises:
        WireError: the description has no `ends`.
    """
    if description.ends is None:
        raise WireError("the description of a process has no `ends`")
    own = ProcessFds.assign(description, fds)
    child = Child(slot, record, description.group, usage)
    child.pid, child.started_at_ms = description.pid, description.started_at_ms
    child.pidfd = own.pidfd if own.pidfd is not None else -1
    if description.is_waiting:
        child.gate = own.start[0]
    if description.is_starting:
        child.outcome, child.report = own.start[-2:]
    child.stdin = own.stdin
    child.exited = description.exited
    child.failed = description.failed
    child.timeout_ms, child.deadline_ms = description.timeout_ms, description.deadline_ms
    child.reaped = child.exited is not None or child.failed is not None
    child.started = not description.is_starting and child.failed is None
    for stream, stream_fds in zip(description.streams, own.streams, strict=True):
        segments = [
            Segment(fd, start, path) for fd, (start, path) in zip(stream_fds.segments, stream.segments, strict=True)
        ]
        child.streams[stream.stream] = StreamBuffer(
            stream_fds.pipe,
            segments,
            trimmed_to=stream.trimmed_to,
            sent_to=stream.sent_to,
            relay=stream_fds.relay,
        )
    child.restore_frames(
        [Frame(*fields) for fields in description.frames], [Frame(*fields) for fields in description.ends]
    )
    return child


def dump_state(child: Child) -> tuple[dict[str, Any], list[int]]:
    """Return everything about a process that no daemon is attached to, for the next version of this program."""
    description, fds = describe(child)
    return {
        "slot": child.slot,
        "record": child.record,
        **description._replace(ends=[frame.to_fields() for frame in child.ends]).to_json(),
        "adopted": child.adopted,
        "close_stdin_after_input": child.close_stdin_after_input,
        "stop_by_ms": child.stop_by_ms,
        "unwritten": {stream: buffer.unwritten.hex() for stream, buffer in child.streams.items()},
        "input": [bytes(pending.data).hex() for pending in child.input],
    }, fds


def load_state(state: dict[str, Any], fds: Sequence[int], usage: BufferUsage) -> Child:
    """Make a process from what `dump_state` returned."""
    child = restore(state["slot"], state["record"], ProcessDescription.from_json(state), fds, usage)
    child.adopted = state["adopted"]
    for stream, buffer in child.streams.items():
        buffer.unwritten = bytes.fromhex(state["unwritten"][str(stream)])
    child.close_stdin_after_input = state["close_stdin_after_input"]
    child.stop_by_ms = state.get("stop_by_ms")  # the version before had no such field
    child.input.extend(PendingInput(None, memoryview(bytes.fromhex(data))) for data in state["input"])
    return child
