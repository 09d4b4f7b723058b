"""Matching lines: a text, or a regular expression in time that is linear in the line's length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from outlast.model.errors import InvalidRequest

MAX_PROGRAM = 5000
"""Maximum RE2 instructions of an expression. Nested counted repetition makes many instructions of a short expression;
each byte of a line may then visit them all, and nothing can interrupt that."""

MAX_SPANS = 100
"""Maximum number of matches of one line that are told apart."""

Span = tuple[int, int]
"""Start and end of a match, as half-open as a slice."""

_MAX_MEMORY_BYTES = 8 << 20
_CONTINUES, _BEGINS = 0x80, 0xC0
"""In UTF-8, a byte from the first to below the second stands within a character."""


class Matcher(Protocol):
    """A condition on lines, as bytes."""

    def may_match(self, data: bytes) -> bool:
        """Return, quickly, whether any line of `data` can match."""

    def matches(self, line: bytes) -> bool:
        """Return whether a line, given without its terminator, matches."""

    def spans(self, line: bytes) -> Iterable[Span]:
        """Return the matches in a line, in bytes, left to right. They do not overlap, and may be empty."""


def make_matcher(pattern: str, field: str, *, is_regex: bool, ignore_case: bool = False) -> Matcher:
    """Return a matcher for lines that contain `pattern`. `field`: its name in error messages.

    Raises:
        InvalidRequest: `is_regex`, and the pattern is not a valid RE2 regular expression, or is too large.
    """
    if is_regex:
        return Regex(pattern, field, ignore_case=ignore_case)
    return AnyCaseText(pattern) if ignore_case else Text(pattern.encode())


@dataclass(frozen=True, slots=True)
class Text:
    """A text that a line contains, in the same case."""

    needle: bytes

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`."""
        return self.needle in data

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self.needle in line

    def spans(self, line: bytes) -> Iterator[Span]:
        """See `Matcher`."""
        start = line.find(self.needle)
        while start >= 0:
            end = start + len(self.needle)
            yield start, end
            start = line.find(self.needle, end)


class AnyCaseText:
    """A text that a line contains in any case, in every script. A letter matches one letter, never two."""

    def __init__(self, text: str) -> None:
        # Case folding would need the lines as characters, and they may not be valid UTF-8.
        self._pattern = _compile(text, is_text=True, ignore_case=True)

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`. The text contains no newline, so a match lies within one line."""
        return self._pattern.search(data) is not None

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self._pattern.search(line) is not None

    def spans(self, line: bytes) -> Iterator[Span]:
        """See `Matcher`."""
        return (found.span() for found in self._pattern.finditer(line))


class Regex:
    """An RE2 regular expression that some part of a line matches."""

    def __init__(self, pattern: str, field: str, *, ignore_case: bool) -> None:
        """Compile `pattern`. `field`: its name in error messages.

        Raises:
            InvalidRequest: the pattern is not valid, or too large.
        """
        import re2  # noqa: PLC0415 - as in _compile

        try:
            self._pattern = _compile(pattern, is_text=False, ignore_case=ignore_case)
        except re2.error as exc:
            reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc.args[0]
            raise InvalidRequest(f"{field} is not a valid RE2 regular expression: {reason}") from None
        size = self._pattern.programsize
        if size > MAX_PROGRAM:
            raise InvalidRequest(
                f"{field} is too large: it compiles to {size} RE2 instructions, the maximum is {MAX_PROGRAM}; "
                "use fewer repetitions, or smaller character classes"
            )

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`."""
        return bool(data)

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self._pattern.search(line) is not None

    def spans(self, line: bytes) -> Iterator[Span]:
        """See `Matcher`."""
        return (found.span() for found in self._pattern.finditer(line))


def spans_in_text(matcher: Matcher, line: bytes) -> list[Span]:
    """Return the first `MAX_SPANS` matches in a line, in characters (code points) of its text; no empty ones.

    The text is the line as UTF-8, with U+FFFD for what is not valid.
    """
    found = list(islice((span for span in matcher.spans(line) if span[0] < span[1]), MAX_SPANS))
    if line.isascii():
        return found
    spans: list[Span] = []
    chars = at = 0
    for span in found:
        counts = []
        for place in span:
            counts.append(chars + len(line[at:place].decode("utf-8", "replace")))
            if place < len(line) and not _CONTINUES <= line[place] < _BEGINS:  # else a character is cut there
                chars, at = counts[-1], place
        spans.append((counts[0], counts[1]))
    return spans


def _compile(pattern: str, *, is_text: bool, ignore_case: bool) -> Any:
    import re2  # noqa: PLC0415 - few requests need it, and it would slow down the start of the daemon

    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True  # capturing groups would make every search slower
    options.literal = is_text
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern.encode(), options)
    finally:
        re2.purge()  # its cache would keep 128 expressions, each with up to `max_mem`
