"""The rule that keeps output free of silent holes and repeats. Plug-ins check it before they store a chunk."""

from outlast.model.output import Chunk, Position, Stream


def advance(stored: Position, chunk: Chunk) -> Position | None:
    """Return the position once `chunk` is stored after `stored`. None: the whole chunk is stored already; ignore it.

    The chunk's `line_count` is trusted: counting the lines again would be a fifth of the cost of a flood. So is the
    length of its lines.

    Raises:
        ValueError: the chunk does not begin exactly where `stored` ends, or continues a line that is not the unfinished
            one of its stream and run, or its sizes do not match its data.
    """
    if _is_well_formed(chunk):
        if _holds(stored, chunk):
            return None
        follows = chunk.first_seq == stored.last_seq + 1 or (chunk.gap and chunk.first_seq > stored.last_seq)
        if follows and _grows(stored, chunk) and _joins(stored, chunk):
            return stored.after(chunk)
    raise ValueError(
        f"chunk of process {chunk.handle}: {chunk.gap or 'lines'} {chunk.first_seq}..{chunk.last_seq} with "
        f"{len(chunk.data)} bytes (continues: {chunk.continues}), ending at {chunk.stdout_end} and {chunk.stderr_end}, "
        f"does not continue {stored}"
    )


def _is_well_formed(chunk: Chunk) -> bool:
    if chunk.gap:
        return not chunk.data and chunk.line_count == 1 and not chunk.continues
    return bool(chunk.data) and chunk.line_count >= 1


def _holds(stored: Position, chunk: Chunk) -> bool:
    return (
        chunk.last_seq <= stored.last_seq
        and chunk.stdout_end <= stored.stdout_end
        and chunk.stderr_end <= stored.stderr_end
    )


def _joins(stored: Position, chunk: Chunk) -> bool:
    if not chunk.continues:
        return True
    line = stored.unfinished_line(chunk.stream)
    return line is not None and (line.run, line.first_seq) == (chunk.run, chunk.continues)


def _grows(stored: Position, chunk: Chunk) -> bool:
    """Return whether the end of the chunk's stream grows by its data (a gap: by any number), and the other does not."""
    grown, other = chunk.stdout_end - stored.stdout_end, chunk.stderr_end - stored.stderr_end
    if chunk.stream is Stream.STDERR:
        grown, other = other, grown
    return other == 0 and (grown >= 0 if chunk.gap else grown == len(chunk.data))
