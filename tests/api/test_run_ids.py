"""The ids of a run's events: a follower that continues behind any of them misses nothing."""

import json

from hypothesis import given
from hypothesis import strategies as st

from outlast.api.handlers.run import _RunLines
from outlast.model.output import Chunk, Stream, split_lines

from .chunks import numbered

TEXT = st.text("ab\n", min_size=1, max_size=8).map(str.encode)
CHUNKS = st.lists(st.tuples(TEXT, st.sampled_from(Stream)), max_size=12).map(numbered)


def behind(chunks: list[Chunk], stream: Stream, seq: int) -> int:
    """Return how many bytes of a stream a follower behind `seq` does not get."""
    size = 0
    for chunk in chunks:
        if chunk.stream is stream:
            lines = split_lines(chunk.data)
            size += sum(len(line) for number, line in enumerate(lines, chunk.first_seq) if number <= seq)
    return size


@given(chunks=CHUNKS)
def test_a_follower_that_continues_misses_nothing(chunks: list[Chunk]) -> None:
    lines = _RunLines()
    sent = dict.fromkeys(Stream, 0)
    for chunk in chunks:
        for block in b"".join(lines.encode(chunk)).split(b"\n\n")[:-1]:
            id_line, data = block.split(b"\ndata: ")
            event = json.loads(data)
            sent[next(stream for stream in Stream if stream.word == event["stream"])] += len(event["line"]) + 1
            passed = {stream: behind(chunks, stream, int(id_line.removeprefix(b"id: "))) for stream in Stream}
            assert all(passed[stream] <= sent[stream] for stream in Stream)
    if chunks and not any(joiner.open_seq for joiner in lines._joiners.values()):
        assert passed == sent  # nothing comes twice when no part of a line waits
