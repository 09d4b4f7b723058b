"""Building blocks of the schemas: each says in its error what the caller should send instead.

An error is a phrase that reads on from the field's name: "must be a string".
"""

import re
import signal
from typing import Any

from marshmallow import ValidationError, fields, validate

from outlast.core.commands.users import UserSpec
from outlast.model.ulid import is_ulid

MAX_INTEGER = 2**53 - 1  # what every JSON reader holds exactly
MAX_ID = 2**32 - 2  # of a user or group; 2**32 - 1 means "leave unchanged" to the system
MIN_SECONDS = 0.001
MAX_SECONDS = 366 * 24 * 3600
MAX_SIGNAL = 64
MAX_PORT = 65_535
MAX_TAGS = 64
MAX_TAG_KEY_CHARS = 128
MAX_TAG_VALUE_CHARS = 1024
MAX_KEY_CHARS = 255
MAX_NAME_CHARS = 255

_DIGITS = re.compile(r"[0-9]{1,16}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SPOKEN: dict[str, str | list[Any] | dict[Any, Any]] = {
    "required": "is required",
    "null": "must not be null, leave it out instead",
    "invalid": "must be a string",
    "invalid_utf8": "must be a string",
}


def check_text(text: object) -> str:
    """Return `text` if the system can take it: a string without NUL that can be encoded as UTF-8.

    Raises:
        ValidationError: it is not.
    """
    if not isinstance(text, str):
        raise ValidationError("must be a string")
    if "\0" in text:
        raise ValidationError("must not hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("must not hold a lone surrogate") from None
    return text


class String(fields.String):
    """A string without NUL and lone surrogates."""

    default_error_messages = _SPOKEN

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        del attr, data, kwargs
        return check_text(value)


class Key(String):
    """An idempotency key: a short string that can be shown as it is."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 1 <= len(text) <= MAX_KEY_CHARS or not text.isprintable():
            raise ValidationError(f"must be 1 to {MAX_KEY_CHARS} printable characters")
        return text


class Name(String):
    """A process's name: what a path can hold, and what is no pid and no id."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 1 <= len(text) <= MAX_NAME_CHARS or "/" in text or text in {".", ".."}:
            raise ValidationError(f'must be 1 to {MAX_NAME_CHARS} characters without "/", and not "." or ".."')
        if (text.isascii() and text.isdigit()) or is_ulid(text.upper()):
            raise ValidationError("must not look like a pid (all digits) or an id (a ULID)")
        return text


class Integer(fields.Integer):
    """An integer of a JSON body. Booleans, fractions and digits in a string are none."""

    def __init__(self, *, low: int = 0, high: int = MAX_INTEGER, **kwargs: Any) -> None:
        phrase = f"must be an integer from {low} to {high}"
        super().__init__(
            strict=True,
            validate=validate.Range(low, high, error=phrase),
            error_messages={**_SPOKEN, "invalid": phrase},
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
            validate=validate.Range(low, high, error=phrase), error_messages={**_SPOKEN, "invalid": phrase}, **kwargs
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
    """A time in seconds, whole or not, of a JSON body: `high` at most. Loads as milliseconds."""

    default_error_messages = _SPOKEN

    def __init__(self, *, high: int = MAX_SECONDS, metadata: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(metadata={**metadata, "minimum": MIN_SECONDS, "maximum": high}, **kwargs)
        self._high = high

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        del attr, data, kwargs
        if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_SECONDS <= value <= self._high:
            raise ValidationError(f"must be a number of seconds from {MIN_SECONDS} to {self._high}")
        return round(value * 1000)


class QuerySeconds(Seconds):
    """A time in seconds in a query string. Loads as milliseconds."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        number = float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
        return super()._deserialize(number, attr, data, **kwargs)


class QueryInteger(Integer):
    """An integer of a query string or header: ASCII digits only."""

    def _validated(self, value: Any) -> int:
        if not isinstance(value, str) or not _DIGITS.fullmatch(value):
            raise self.make_error("invalid")
        return int(value)


class QueryFlag(fields.Boolean):
    """`true` or `false` in a query string."""

    default_error_messages = {**_SPOKEN, "invalid": "must be true or false"}
    truthy = {"true"}
    falsy = {"false"}


class Choice(fields.Enum[Any]):
    """One value of an enumeration, written as its value."""

    def __init__(self, enum: Any, **kwargs: Any) -> None:
        phrase = f"must be one of {', '.join(member.value for member in enum)}"
        super().__init__(enum, by_value=True, error_messages={**_SPOKEN, "unknown": phrase}, **kwargs)


class Choices(fields.List[Any]):
    """Repeated values of an enumeration in a query string."""

    def __init__(self, enum: Any, **kwargs: Any) -> None:
        super().__init__(Choice(enum), **kwargs)


class Ulid(String):
    """The permanent id of a process."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs).upper()
        if not is_ulid(text):
            raise ValidationError("must be the permanent id of a process: 26 digits and letters, as `id` shows it")
        return text


class Strings(fields.List[str]):
    """An array of strings."""

    default_error_messages = {**_SPOKEN, "invalid": "must be an array of strings"}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(String(), **kwargs)


class Environment(fields.Dict):
    """Environment variables: an object of strings whose keys the system can take."""

    default_error_messages = {**_SPOKEN, "invalid": "must be an object of strings"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        for key, text in value.items():
            check_text(key)
            if not key or "=" in key:
                raise ValidationError('must not hold a key that is empty or has "="')
            _check_member(key, text)
        return value


class Tags(fields.Dict):
    """Labels of a process: an object of short strings. A key has no ":", so that `tag=key:value` is clear."""

    default_error_messages = {**_SPOKEN, "invalid": "must be an object of strings"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > MAX_TAGS:
            raise ValidationError(f"must not hold more than {MAX_TAGS} tags")
        for key, text in value.items():
            check_tag_key(key)
            _check_member(key, text)
            if len(text) > MAX_TAG_VALUE_CHARS:
                raise ValidationError({key: [f"must not be longer than {MAX_TAG_VALUE_CHARS} characters"]})
        return value


class TagFilters(fields.List[str]):
    """Repeated `tag=key:value` of a query string, as a dictionary. The value may hold ":"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(String(), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        wanted: dict[str, str] = {}
        texts: list[str] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[assignment]
        for text in texts:
            key, colon, tag_value = text.partition(":")
            if not colon:
                raise ValidationError("must have the form key:value")
            check_tag_key(key)
            if wanted.setdefault(key, tag_value) != tag_value:
                raise ValidationError(f"asks for two values of {key!r}, which no process can have")
        return wanted


class SignalNumber(fields.Field[int]):
    """A signal, by number (1 to 64) or by name ("SIGTERM" or "TERM")."""

    default_error_messages = _SPOKEN

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        del attr, data, kwargs
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIGNAL:
            return value
        if isinstance(value, str):
            known = signal.Signals.__members__
            number = known.get(value) or known.get(f"SIG{value}")
            if number is not None:
                return int(number)
        raise ValidationError(f'must be a number from 1 to {MAX_SIGNAL} or a name such as "SIGTERM"')


class User(fields.Field[UserSpec]):
    """Whom to run as: "name", "uid", "uid:gid", {"name": ...} or {"uid": ..., "gid": ...}."""

    default_error_messages = _SPOKEN

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UserSpec:
        del attr, data, kwargs
        if isinstance(value, str):
            return self._from_text(value)
        if isinstance(value, dict):
            return self._from_object(value)
        raise ValidationError('must be "name", "uid:gid", {"name": ...} or {"uid": ..., "gid": ...}')

    def _from_text(self, text: str) -> UserSpec:
        check_text(text)
        uid, colon, gid = text.partition(":")
        if uid and not colon and not text.isdecimal():
            return UserSpec(name=text, uid=None, gid=None)
        if not _DIGITS.fullmatch(uid) or (colon and not _DIGITS.fullmatch(gid)):
            raise ValidationError('must be a name, or numbers as "uid:gid"')
        return UserSpec(name=None, uid=_check_id(int(uid)), gid=_check_id(int(gid)) if colon else None)

    def _from_object(self, given: dict[str, Any]) -> UserSpec:
        # The clients send every key, null where unset.
        given = {key: value for key, value in given.items() if value is not None}
        if given.keys() == {"name"}:
            name = check_text(given["name"])
            if not name:
                raise ValidationError({"name": ["must not be empty"]})
            return UserSpec(name=name, uid=None, gid=None)
        if given.keys() in ({"uid"}, {"uid", "gid"}):
            gid = _check_id(given["gid"]) if "gid" in given else None
            return UserSpec(name=None, uid=_check_id(given["uid"]), gid=gid)
        raise ValidationError('must have either "name", or "uid" and perhaps "gid", and nothing else')


def check_tag_key(key: object) -> None:
    """Raise `ValidationError` if `key` cannot be the key of a tag."""
    text = check_text(key)
    if not text or len(text) > MAX_TAG_KEY_CHARS or ":" in text:
        raise ValidationError(f'must have keys of 1 to {MAX_TAG_KEY_CHARS} characters without ":"')


def _check_member(key: str, value: object) -> None:
    try:
        check_text(value)
    except ValidationError as error:
        raise ValidationError({key: error.messages}) from None


def _check_id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise ValidationError(f"must have ids from 0 to {MAX_ID}")
    return value
