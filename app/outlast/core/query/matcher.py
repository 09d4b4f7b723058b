"""What a line may be searched for: a text, or a regular expression in time that is linear in the line's length."""

from dataclasses import dataclass
from typing import Any, Protocol

from outlast.model.errors import InvalidRequest

MAX_PROGRAM = 5000
"""Of instructions of RE2. Nested counted repetition makes many of a short expression, and each byte of a line may then
visit them all, which nothing can interrupt."""

_MAX_MEMORY_BYTES = 8 << 20


class Matcher(Protocol):
    """Decides on bytes, as they were printed."""

    def may_match(self, data: bytes) -> bool:
        """Tell, quickly, whether any line of `data` can match."""

    def matches(self, line: bytes) -> bool:
        """Tell whether a line, given without its terminator, matches."""


def matcher(pattern: str, field: str, *, is_regex: bool, ignore_case: bool = False) -> Matcher:
    """Make what looks for `pattern`, which is part of one line; `field` is what the caller knows it by.

    Raises:
        InvalidRequest: it is no regular expression, though it is to be one, or too large a one.
    """
    if is_regex:
        return Regex(pattern, field, ignore_case=ignore_case)
    return AnyCaseText(pattern) if ignore_case else Text(pattern.encode())


@dataclass(frozen=True, slots=True)
class Text:
    """A text that a line holds, case mattering."""

    needle: bytes

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`."""
        return self.needle in data

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self.needle in line


class AnyCaseText:
    """A text that a line holds, upper and lower case alike, in every script; a letter is like one letter, never two."""

    def __init__(self, text: str) -> None:
        # To fold lines and compare would need them as characters, and they may be none.
        self._pattern = _compile(text, is_text=True, ignore_case=True)

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`. There is no line's end in the text, so what is found is in one line."""
        return self._pattern.search(data) is not None

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self._pattern.search(line) is not None


class Regex:
    """An expression of RE2 that some part of a line matches."""

    def __init__(self, pattern: str, field: str, *, ignore_case: bool) -> None:
        """Compile it; `field` is what the caller knows it by.

        Raises:
            InvalidRequest: it is none, or it is too large; the sentence says why.
        """
        import re2  # noqa: PLC0415 - as in _compile

        try:
            self._pattern = _compile(pattern, is_text=False, ignore_case=ignore_case)
        except re2.error as exc:
            reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc.args[0]
            raise InvalidRequest(f"{field} is no regular expression of RE2: {reason}") from None
        size = self._pattern.programsize
        if size > MAX_PROGRAM:
            raise InvalidRequest(
                f"{field} is too large a regular expression: it makes {size} instructions of RE2, at most "
                f"{MAX_PROGRAM} are taken; repeat less, or use classes of fewer characters"
            )

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`."""
        return bool(data)

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self._pattern.search(line) is not None


def _compile(pattern: str, *, is_text: bool, ignore_case: bool) -> Any:
    import re2  # noqa: PLC0415 - few need it, and a daemon's start must not wait for it

    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True  # groups, which nobody asks for, make every look slower
    options.literal = is_text
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern.encode(), options)
    finally:
        re2.purge()  # it would keep 128 of them, each with all the memory that it may take
