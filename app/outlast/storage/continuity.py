"""The rule that keeps output free of silent holes and repeats. Plug-ins check it before they store a chunk."""

from outlast.model.output import Chunk, Position, Stream


def advance(stored: Position, chunk: Chunk) -> Position | None:
    """Return the position once `chunk` is stored after `stored`. None: the whole chunk is stored already; ignore it.

    The chunk's `line_count` is trusted: counting the lines again would be a fifth of the cost of a flood.

    Raises:
        ValueError: the chunk does not begin exactly where `stored` ends, or its sizes do not match its data.
    """
    position = chunk.position
    if _is_well_formed(chunk):
        if _holds(stored, position):
            return None
        if chunk.first_seq == stored.last_seq + 1 and _grows(stored, chunk):
            return position
    raise ValueError(
        f"chunk of process {chunk.handle}: {chunk.gap or 'lines'} {chunk.first_seq}..{chunk.last_seq} with "
        f"{len(chunk.data)} bytes, ending at {position}, does not continue {stored}"
    )


def _is_well_formed(chunk: Chunk) -> bool:
    if chunk.gap:
        return not chunk.data and chunk.line_count == 1
    return bool(chunk.data) and chunk.line_count >= 1


def _holds(stored: Position, position: Position) -> bool:
    return (
        position.last_seq <= stored.last_seq
        and position.stdout_end <= stored.stdout_end
        and position.stderr_end <= stored.stderr_end
    )


def _grows(stored: Position, chunk: Chunk) -> bool:
    """Return whether the end of the chunk's stream grows by its data (a gap: by any number), and the other does not."""
    grown, other = chunk.stdout_end - stored.stdout_end, chunk.stderr_end - stored.stderr_end
    if chunk.stream is Stream.STDERR:
        grown, other = other, grown
    return other == 0 and (grown >= 0 if chunk.gap else grown == len(chunk.data))
