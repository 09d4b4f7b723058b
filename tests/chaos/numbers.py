"""Numbers of lines and gaps: what they must be, and which of a follower's events were lost with daemon and shim."""

import itertools
import json
from collections.abc import Sequence
from typing import NamedTuple

from outlast.model.output import MAX_UNSTORED_LINES
from tests.chaos.database import WORDS, Line
from tests.chaos.scripts import STDOUT


def expected_numbers(lines: Sequence[Line]) -> list[int]:
    """Return 1, 2, 3 ...; the first gap of each loss passes over all numbers that followers can have seen."""
    steps = [1 + MAX_UNSTORED_LINES * bool(line.gap and line.stream == STDOUT) for line in lines]
    return list(itertools.accumulate(steps))


class Lost(NamedTuple):
    """An event that a follower has seen, and that was lost before it was stored."""

    number: int
    stream: str
    text: str


def split_lost(got: Sequence[bytes], numbers: Sequence[int]) -> tuple[list[bytes], list[Lost]]:
    """Return a follower's events that are stored, and those that were lost. `numbers`: of all that is stored."""
    known = set(numbers)
    passed_over = [(a, b) for a, b in itertools.pairwise((0, *numbers)) if b > a + 1]
    kept: list[bytes] = []
    lost: list[Lost] = []
    for event in got:
        head, _, data = event.decode().split("\n")
        number = int(head.removeprefix("id: "))
        if number not in known and any(a < number < b for a, b in passed_over):
            values = json.loads(data.removeprefix("data: "))
            lost.append(Lost(number, values["stream"], values["line"]))
        else:
            kept.append(event)
    return kept, lost


def lost_differ(
    name: str, lost: Sequence[Lost], last_stored: int, script: dict[int, bytes], stored: dict[int, bytes]
) -> str | None:
    """Return None, or a sentence: what was lost is not what the child wrote next.

    Args:
        name: name of the follower.
        lost: what it has seen.
        last_stored: number of the last line that is stored.
        script: what the child wrote, by stream.
        stored: the beginning of it that is stored.
    """
    numbers = [event.number for event in lost]
    if len(set(numbers)) < len(numbers) or (numbers and min(numbers) <= last_stored):
        return f"{name} has seen numbers behind {last_stored} twice: {numbers[:100]}"
    for stream, word in WORDS.items():
        text = "".join(event.text for event in lost if event.stream == word)
        rest = script[stream][len(stored[stream]) :].decode(errors="replace")
        if not rest.startswith(text):
            return f"{name} has seen {text[:200]!r} on {word}, which is lost; written was {rest[:200]!r}"
    return None
