"""The rule that keeps output free of gaps and repeats, for plug-ins to check before they store a chunk."""

from app.model.output import Chunk, Position, Stream


def advance(stored: Position, chunk: Chunk) -> Position:
    """Return the position once `chunk` is stored after `stored`.

    The chunk's own count of its lines is believed: counting them again would be a fifth of the cost of a flood.

    Raises:
        ValueError: the chunk does not begin exactly where `stored` ends, or its sizes do not match its data.
    """
    grown = {Stream.STDOUT: 0, Stream.STDERR: 0, chunk.stream: len(chunk.data)}
    expected = Position(
        last_seq=stored.last_seq + chunk.line_count,
        stdout_end=stored.stdout_end + grown[Stream.STDOUT],
        stderr_end=stored.stderr_end + grown[Stream.STDERR],
    )
    if not chunk.data or chunk.line_count < 1 or chunk.first_seq != stored.last_seq + 1 or chunk.position != expected:
        raise ValueError(
            f"chunk of process {chunk.handle}: lines {chunk.first_seq}..{chunk.last_seq} with "
            f"{len(chunk.data)} bytes, ending at {chunk.position}, do not continue {stored}"
        )
    return expected
