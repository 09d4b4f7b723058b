"""General field types of the schemas: strings, numbers, times, choices.

Each error message is a phrase that follows the name of the field: "must be a string".
"""

import re
from typing import Any

from marshmallow import ValidationError, fields, validate

from outlast.model.reference import handle_in
from outlast.model.ulid import is_ulid

MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exact."""

MIN_SECONDS = 0.001
MAX_EXIT_CODE = 255
MAX_SECONDS = 366 * 24 * 3600
MAX_PORT = 65_535

MAX_NAMED_ITEMS = 5
"""Maximum number of wrong items of an array that an error names."""

DIGITS = re.compile(r"[0-9]{1,16}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

MESSAGES: dict[str, str | list[Any] | dict[Any, Any]] = {
    "required": "is required",
    "null": "must not be null, leave it out instead",
    "invalid": "must be a string",
    "invalid_utf8": "must be a string",
}
"""Error messages of all fields, by marshmallow's keys."""


def check_text(text: object) -> str:
    """Return `text` if the kernel and UTF-8 can hold it.

    Raises:
        ValidationError: `text` is not a string, or holds a NUL character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise ValidationError("must be a string")
    if "\0" in text:
        raise ValidationError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("must not contain a lone surrogate") from None
    return text


class String(fields.String):
    """A string without NUL characters and lone surrogates."""

    default_error_messages = MESSAGES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        del attr, data, kwargs
        return check_text(value)


class Integer(fields.Integer):
    """An integer of a JSON body. Booleans, fractions and strings of digits are rejected."""

    def __init__(self, *, low: int = 0, high: int = MAX_INTEGER, **kwargs: Any) -> None:
        phrase = f"must be an integer from {low} to {high}"
        super().__init__(
            strict=True,
            validate=validate.Range(low, high, error=phrase),
            error_messages={**MESSAGES, "invalid": phrase},
            **kwargs,
        )


class Nested(fields.Nested):
    """A JSON object with fields of its own."""

    def _test_collection(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValidationError("must be a JSON object")


class Float(fields.Float):
    """A number of a JSON body, with or without a fraction."""

    def __init__(self, *, low: float, high: float, **kwargs: Any) -> None:
        phrase = f"must be a number from {low:g} to {high:g}"
        super().__init__(
            validate=validate.Range(low, high, error=phrase), error_messages={**MESSAGES, "invalid": phrase}, **kwargs
        )

    def _validated(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid")
        return float(value)


class QueryFloat(Float):
    """A number of a query string, such as 10 or 0.5."""

    def _validated(self, value: Any) -> float:
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise self.make_error("invalid")
        return float(value)


class Seconds(fields.Field[int]):
    """A duration in seconds, with or without a fraction, of a JSON body. Loads as milliseconds.

    Args:
        high: maximum in seconds.
        metadata: for the OpenAPI document.
        **kwargs: see `marshmallow.fields.Field`.
    """

    default_error_messages = MESSAGES

    def __init__(self, *, high: int = MAX_SECONDS, metadata: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(metadata={**metadata, "minimum": MIN_SECONDS, "maximum": high}, **kwargs)
        self._high = high

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        del attr, data, kwargs
        if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_SECONDS <= value <= self._high:
            raise ValidationError(f"must be a number of seconds from {MIN_SECONDS} to {self._high}")
        return round(value * 1000)


class QuerySeconds(Seconds):
    """A duration in seconds of a query string. Loads as milliseconds."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        number = float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
        return super()._deserialize(number, attr, data, **kwargs)


class QueryInteger(Integer):
    """An integer of a query string or header: ASCII digits only."""

    def _validated(self, value: Any) -> int:
        if not isinstance(value, str) or not DIGITS.fullmatch(value):
            raise self.make_error("invalid")
        return int(value)


class QueryFlag(fields.Boolean):
    """`true` or `false` in a query string."""

    default_error_messages = {**MESSAGES, "invalid": "must be true or false"}
    truthy = {"true"}
    falsy = {"false"}


class Choice(fields.Enum[Any]):
    """One value of an enumeration."""

    def __init__(self, enum: Any, **kwargs: Any) -> None:
        phrase = f"must be one of {', '.join(member.value for member in enum)}"
        super().__init__(enum, by_value=True, error_messages={**MESSAGES, "unknown": phrase}, **kwargs)


class Choices(fields.List[Any]):
    """Values of an enumeration, given by repeating a parameter of a query string."""

    def __init__(self, enum: Any, **kwargs: Any) -> None:
        super().__init__(Choice(enum), **kwargs)


class Strings(fields.List[str]):
    """An array of strings, which are checked in one pass: a large one costs little more than its JSON."""

    default_error_messages = {**MESSAGES, "invalid": "must be an array of strings"}

    def __init__(self, *, max_items: int, metadata: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(String(), metadata={**metadata, "maxItems": max_items}, **kwargs)
        self._max_items = max_items

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        del attr, data, kwargs
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if len(value) > self._max_items:
            raise ValidationError(f"must not have more than {self._max_items} items")
        errors: dict[int, list[str]] = {}
        for number, text in enumerate(value):
            try:
                check_text(text)
            except ValidationError as error:
                errors[number] = error.messages  # type: ignore[assignment]
                if len(errors) == MAX_NAMED_ITEMS:
                    break
        if errors:
            raise ValidationError(errors)
        return value


class ExitCodes(fields.List[int]):
    """An array of exit codes. Loads as a tuple, ascending, each once."""

    default_error_messages = {**MESSAGES, "invalid": "must be an array of integers"}

    def __init__(self, *, metadata: dict[str, Any], **kwargs: Any) -> None:
        limits = {"maxItems": MAX_EXIT_CODE + 1}
        super().__init__(Integer(high=MAX_EXIT_CODE), metadata={**metadata, **limits}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, list) and len(value) > MAX_EXIT_CODE + 1:
            raise ValidationError(f"must not have more than {MAX_EXIT_CODE + 1} items")
        return tuple(sorted(set(super()._deserialize(value, attr, data, **kwargs))))


class PermanentRef(String):
    """A permanent reference to a process: its id, or its handle. Loads as text."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs).upper()
        if handle_in(text) is None and not is_ulid(text):
            raise ValidationError(
                "must be the permanent id of a process (26 digits and letters, as `id` shows it) or its handle (@12)"
            )
        return text
