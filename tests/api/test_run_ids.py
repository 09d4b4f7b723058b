"""The ids of a run's events: a follower that continues behind any of them misses nothing."""

import json

from hypothesis import given
from hypothesis import strategies as st

from outlast.api.handlers.run import _RunLines
from outlast.model.output import Chunk, Stream, split_lines
from outlast.testing.storage.samples import Output

TEXT = st.text("ab\n", min_size=1, max_size=8).map(str.encode)
PARTS = st.lists(st.tuples(TEXT, st.sampled_from(Stream), st.booleans()), max_size=12)


def sizes(chunks: list[Chunk]) -> dict[Stream, dict[int, int]]:
    """Return, by stream and sequence number, how many bytes of text and ends of lines there are."""
    found: dict[Stream, dict[int, int]] = {stream: {} for stream in Stream}
    last: dict[Stream, Chunk] = {}
    for chunk in chunks:
        of_stream, before = found[chunk.stream], last.get(chunk.stream)
        if before is not None and before.ends_within_line and not chunk.continues:
            of_stream[before.last_seq] += 1  # the end of a line whose rest does not come
        last[chunk.stream] = chunk
        of_stream.update((seq, len(line)) for seq, line in enumerate(split_lines(chunk.data), chunk.first_seq))
    return found


@given(parts=PARTS)
def test_a_follower_that_continues_misses_nothing(parts: list[tuple[bytes, Stream, bool]]) -> None:
    output = Output(1)
    chunks = [output.chunk(data, stream, continues=continues) for data, stream, continues in parts]
    stored = sizes(chunks)
    lines = _RunLines()
    sent = dict.fromkeys(Stream, 0)
    for chunk in chunks:
        for block in b"".join(lines.encode(chunk)).split(b"\n\n")[:-1]:
            id_line, data = block.split(b"\ndata: ")
            event = json.loads(data)
            sent[next(stream for stream in Stream if stream.word == event["stream"])] += len(event["line"]) + 1
            id_ = int(id_line.removeprefix(b"id: "))
            passed = {stream: sum(size for seq, size in stored[stream].items() if seq <= id_) for stream in Stream}
            assert all(passed[stream] <= sent[stream] for stream in Stream)
    if chunks and not any(joiner.open_seq for joiner in lines._joiners.values()):
        assert passed == sent  # nothing comes twice when no part of a line waits
