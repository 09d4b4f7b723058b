"""Building blocks of the schemas of calls that look for lines."""

from typing import Any

from marshmallow import ValidationError, validate

from outlast.api.schemas.fields import String
from outlast.core.query.matcher import MAX_PROGRAM
from outlast.model.output import Stream

MAX_PATTERN_CHARS = 1000
_STREAMS = {stream.word: stream for stream in Stream}


def check_one_line(text: str) -> None:
    """Pass what can stand in one line.

    Raises:
        ValidationError: it has a line break.
    """
    if "\n" in text:
        raise ValidationError("must be part of one line, without a line break")


PATTERN = validate.And(
    validate.Length(1, MAX_PATTERN_CHARS, error=f"must be 1 to {MAX_PATTERN_CHARS} characters long"), check_one_line
)
"""Of what lines are searched for."""

REGEX = (
    "is a regular expression (RE2) and not a text. `.` matches a character, so no byte that is not UTF-8: `\\C` does. "
    f"One that makes a program of more than {MAX_PROGRAM} instructions, by much repetition, is refused."
)
"""What a parameter says that makes an expression of another."""


class StreamName(String):
    """One of a process's streams, by its word."""

    def __init__(self, *, metadata: dict[str, Any]) -> None:
        super().__init__(metadata={**metadata, "enum": list(_STREAMS)})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text not in _STREAMS:
            raise ValidationError(f"must be one of {', '.join(_STREAMS)}")
        return _STREAMS[text]
