"""Lines that match an expression, and those around them."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import click

from outlast.cli.terminal import without_colours
from outlast.client import Gap, Line

NOTHING_BETWEEN = None
"""Mark that `LineFilter` yields where lines were left out between two that are shown with those around them."""


@dataclass(slots=True)
class _State:
    """State of the output of one process: the lines before, and how many are still shown behind a match."""

    before: deque[Line]
    parts: dict[str, Line] = field(default_factory=dict)
    left: int = 0
    has_shown: bool = False
    has_skipped: bool = False


def compiled(pattern: str, *, ignores_case: bool) -> Any:
    """Return an expression of RE2.

    Raises:
        click.UsageError: the pattern is none.
    """
    import re2  # noqa: PLC0415 - takes as long as a third of all else, and most commands need none

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignores_case
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc
        raise click.UsageError(f"{pattern!r} is not an expression of RE2: {reason}") from None


class LineFilter:
    """A filter of the output of processes. Colours of the output do not count, and gaps pass."""

    def __init__(self, pattern: str, *, ignores_case: bool, is_inverted: bool, around: int) -> None:
        """Prepare a filter.

        Args:
            pattern: expression of RE2.
            ignores_case: whether upper and lower case are the same.
            is_inverted: whether lines pass that do not match.
            around: number of lines that pass before and behind each.

        Raises:
            click.UsageError: the expression is none.
        """
        self._search = compiled(pattern, ignores_case=ignores_case).search
        self._is_inverted = is_inverted
        self._around = around
        self._states: defaultdict[str, _State] = defaultdict(lambda: _State(deque(maxlen=around)))

    def passed(self, process_id: str, item: Line | Gap) -> Iterable[Line | Gap | None]:
        """Return what is shown once an item has come. None: lines were left out before the next one."""
        if isinstance(item, Gap):
            return (item,)
        state = self._states[process_id]
        if item.complete and not self._around and not state.parts:  # most lines of a flood
            return (item,) if self._is_wanted(item) else ()
        return self._passed(state, item)

    def _passed(self, state: _State, item: Line) -> Iterator[Line | None]:
        if (begun := state.parts.pop(item.stream, None)) is not None:
            item = replace(item, seq=begun.seq, text=begun.text + item.text)
        if item.complete:
            yield from self._whole(state, item)
        else:
            state.parts[item.stream] = item

    def rest(self, process_id: str) -> Iterator[Line | Gap | None]:
        """Yield what is shown of lines that a process has not ended."""
        state = self._states[process_id]
        for line in state.parts.values():
            yield from self._whole(state, line)
        state.parts.clear()

    def _is_wanted(self, line: Line) -> bool:
        return (self._search(without_colours(line.text)) is None) is self._is_inverted

    def _whole(self, state: _State, line: Line) -> Iterator[Line | None]:
        if self._is_wanted(line):
            if self._around and state.has_shown and state.has_skipped:
                yield NOTHING_BETWEEN
            yield from state.before
            yield line
            state.before.clear()
            state.left, state.has_shown, state.has_skipped = self._around, True, False
        elif state.left:
            state.left -= 1
            yield line
        else:
            state.has_skipped = state.has_skipped or len(state.before) == state.before.maxlen
            state.before.append(line)
