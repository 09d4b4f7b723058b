"""What a line may be searched for: a text, or a regular expression in time that is linear in the line's length."""

from dataclasses import dataclass
from typing import Protocol

from app.model.errors import InvalidRequest

_MAX_MEMORY_BYTES = 8 << 20


class Matcher(Protocol):
    """Decides on bytes, as they were printed."""

    def may_match(self, data: bytes) -> bool:
        """Tell, quickly, whether any line of `data` can match."""

    def matches(self, line: bytes) -> bool:
        """Tell whether a line, given without its terminator, matches."""


def matcher(pattern: str, field: str, *, is_regex: bool) -> Matcher:
    """Make what looks for `pattern`; `field` is what the caller knows it by.

    Raises:
        InvalidRequest: it is no regular expression, though it is to be one.
    """
    return Regex(pattern, field) if is_regex else Text(pattern.encode())


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


class Regex:
    """An expression of RE2 that some part of a line matches."""

    def __init__(self, pattern: str, field: str) -> None:
        """Compile it; `field` is what the caller knows it by.

        Raises:
            InvalidRequest: it is none, or it is too large; the sentence says why.
        """
        import re2  # noqa: PLC0415 - few need it, and a daemon's start must not wait for it

        options = re2.Options()
        options.max_mem = _MAX_MEMORY_BYTES
        options.log_errors = False
        try:
            self._pattern = re2.compile(pattern.encode(), options)
        except re2.error as exc:
            reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc.args[0]
            raise InvalidRequest(f"{field} is no regular expression of RE2: {reason}") from None

    def may_match(self, data: bytes) -> bool:
        """See `Matcher`."""
        return bool(data)

    def matches(self, line: bytes) -> bool:
        """See `Matcher`."""
        return self._pattern.search(line) is not None
