"""Field types of calls that look for lines of output."""

from typing import Any

from marshmallow import ValidationError, validate

from outlast.api.schemas.fields import String
from outlast.core.query.matcher import MAX_PROGRAM, make_matcher
from outlast.model.errors import InvalidRequest
from outlast.model.output import Stream

MAX_PATTERN_CHARS = 1000
_STREAMS = {stream.word: stream for stream in Stream}


def check_one_line(text: str) -> None:
    """Check that `text` can be part of one line.

    Raises:
        ValidationError: `text` has a line break.
    """
    if "\n" in text:
        raise ValidationError("must be part of one line, without a line break")


PATTERN = validate.And(
    validate.Length(1, MAX_PATTERN_CHARS, error=f"must be 1 to {MAX_PATTERN_CHARS} characters long"), check_one_line
)
"""Validator of the text or regular expression that lines are searched for."""


def check_expression(text: str) -> None:
    """Check that `text` is a regular expression.

    Raises:
        ValidationError: it is not valid, or too large.
    """
    try:
        make_matcher(text, "it", is_regex=True)
    except InvalidRequest as exc:
        raise ValidationError(str(exc).removeprefix("it ")) from None


IGNORE_CASE = "Ignore the difference between upper and lower case, in every script."
"""Description of the flag that makes a text match in any case."""


def regex_meaning(parameter: str) -> str:
    """Return the description of the flag that makes the text in `parameter` a regular expression."""
    return (
        f"Treat `{parameter}` as a regular expression (RE2 syntax) instead of literal text. `.` matches one character; "
        "a byte that is not valid UTF-8 is matched by `\\C` only. An expression that compiles to more than "
        f"{MAX_PROGRAM:,} instructions is rejected; large repetition counts cause that."
    )


class StreamName(String):
    """One stream of a process: `stdout` or `stderr`."""

    def __init__(self, *, metadata: dict[str, Any]) -> None:
        super().__init__(metadata={**metadata, "enum": list(_STREAMS)})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text not in _STREAMS:
            raise ValidationError(f"must be one of {', '.join(_STREAMS)}")
        return _STREAMS[text]
