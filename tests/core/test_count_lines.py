"""The number of lines in a chunk, whichever way it is counted."""

import pytest

from outlast.model.output import count_lines, split_lines

_SIZES = (0, 1, 39, 40, 96, 5000)


@pytest.mark.parametrize("end", [b"", b"\n", b"a part"])
@pytest.mark.parametrize("later", _SIZES)
@pytest.mark.parametrize("first", _SIZES)
def test_each_line_counts_whatever_its_length(first: int, later: int, end: bytes) -> None:
    for count in (0, 1, 200):
        data = (b"x" * first + b"\n") * count + (b"y" * later + b"\n") * count + end
        assert count_lines(data) == len(split_lines(data))
