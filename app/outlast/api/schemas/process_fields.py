"""Field types of one process: its key, name, environment, tags, user, and signals to it.

Each error message is a phrase that follows the name of the field: "must be a string".
"""

import re
import signal
from typing import Any

from marshmallow import ValidationError, fields

from outlast.api.schemas.fields import DIGITS, MESSAGES, String, check_text
from outlast.core.commands.users import UserSpec
from outlast.model.reference import handle_in, pid_in
from outlast.model.ulid import is_ulid

MAX_ID = 2**32 - 2
"""Largest id of a user or group: to the kernel, 2**32 - 1 means "leave unchanged"."""

MAX_SIGNAL = 64
_SIGNAL_NAME = re.compile(r"(?:SIG)?([A-Z][A-Z0-9]*)([+-][0-9]{1,2})?", re.ASCII)
MAX_ARGS = 250_000
MAX_VARIABLES = 50_000
MAX_TAGS = 64
MAX_TAG_KEY_CHARS = 128
MAX_TAG_VALUE_CHARS = 1024
MAX_KEY_CHARS = 255
MAX_NAME_CHARS = 255


class Key(String):
    """An idempotency key: a short string of printable characters."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 1 <= len(text) <= MAX_KEY_CHARS or not text.isprintable():
            raise ValidationError(f"must be 1 to {MAX_KEY_CHARS} printable characters")
        return text


class Name(String):
    """The name of a process: printable, fits into a path, and looks like no pid, handle or id."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 1 <= len(text) <= MAX_NAME_CHARS or not text.isprintable() or "/" in text or text in {".", ".."}:
            raise ValidationError(
                f'must be 1 to {MAX_NAME_CHARS} printable characters without "/", and not "." or ".."'
            )
        if pid_in(text) is not None or handle_in(text) is not None or is_ulid(text.upper()):
            raise ValidationError("must not look like a pid (all digits), a handle (@12) or an id (a ULID)")
        return text


class Environment(fields.Dict):
    """Environment variables: an object of strings whose keys the kernel accepts."""

    default_error_messages = {**MESSAGES, "invalid": "must be an object of strings"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > MAX_VARIABLES:
            raise ValidationError(f"must not have more than {MAX_VARIABLES} variables")
        for key, text in value.items():
            check_text(key)
            if not key or "=" in key:
                raise ValidationError('must not contain a key that is empty or has "="')
            _check_member(key, text)
        return value


class Tags(fields.Dict):
    """Tags of a process: an object of short strings. A key has no ":", so that `tag=key:value` is unambiguous."""

    default_error_messages = {**MESSAGES, "invalid": "must be an object of strings"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > MAX_TAGS:
            raise ValidationError(f"must not have more than {MAX_TAGS} tags")
        for key, text in value.items():
            check_tag_key(key)
            _check_member(key, text)
            if len(text) > MAX_TAG_VALUE_CHARS:
                raise ValidationError({key: [f"must not be longer than {MAX_TAG_VALUE_CHARS} characters"]})
        return value


class TagFilters(fields.List[str]):
    """Tags given by repeating `tag=key:value` in a query string. Loads as a dictionary. The value may hold ":"."""

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
                raise ValidationError(f"has two values for the key {key!r}, but a process has only one")
        return wanted


class SignalNumber(fields.Field[int]):
    """A signal, by number (1 to 64) or by name, in the forms that `kill` takes: "SIGTERM", "term", "RTMIN+1", "15"."""

    default_error_messages = MESSAGES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        del attr, data, kwargs
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIGNAL:
            return value
        if isinstance(value, str) and 1 <= (number := _signal_number(value)) <= MAX_SIGNAL:
            return number
        raise ValidationError(f'must be a number from 1 to {MAX_SIGNAL} or a name such as "SIGTERM"')


class User(fields.Field[UserSpec]):
    """The user to run as, and perhaps the group: "user", "user:group", each a name or a number, or an object."""

    default_error_messages = MESSAGES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UserSpec:
        del attr, data, kwargs
        if isinstance(value, str):
            return self._from_text(value)
        if isinstance(value, dict):
            return self._from_object(value)
        raise ValidationError('must be "user" or "user:group" (names or numbers), {"name": ...} or {"uid": ...}')

    def _from_text(self, text: str) -> UserSpec:
        user, colon, group = check_text(text).partition(":")
        name, uid = _check_name_or_id(user)
        group_name, gid = _check_name_or_id(group) if colon else (None, None)
        return UserSpec(name=name, uid=uid, group=group_name, gid=gid)

    def _from_object(self, given: dict[str, Any]) -> UserSpec:
        # The official clients send every key, null where unset.
        given = {key: value for key, value in given.items() if value is not None}
        if given.keys() - {"gid"} not in ({"name"}, {"uid"}):
            raise ValidationError('must have either "name" or "uid", and perhaps "gid", and nothing else')
        gid = _check_id(given["gid"]) if "gid" in given else None
        if "uid" in given:
            return UserSpec(uid=_check_id(given["uid"]), gid=gid)
        name = check_text(given["name"])
        if not name:
            raise ValidationError({"name": ["must not be empty"]})
        if not _is_name(name):
            raise ValidationError({"name": ['must be a name: it begins with "-", has ":", or is a number (use "uid")']})
        return UserSpec(name=name, gid=gid)


def _is_name(text: str) -> bool:
    """Tell whether a text can be the name of a user or a group where a number can stand, too."""
    return bool(text) and not text.isdecimal() and not text.startswith("-") and ":" not in text


def _check_name_or_id(text: str) -> tuple[str | None, int | None]:
    if DIGITS.fullmatch(text):
        return None, _check_id(int(text))
    if not _is_name(text):
        raise ValidationError('must be "user" or "user:group", each a name or a number')
    return text, None


def _signal_number(text: str) -> int:
    """Return the number of a signal that is given by name or in digits; 0: there is no such signal."""
    if DIGITS.fullmatch(text):
        return int(text)
    found = _SIGNAL_NAME.fullmatch(text.upper())
    if found is None:
        return 0
    name, offset = found.groups()
    number = signal.Signals.__members__.get(f"SIG{name}", 0)
    if not offset:
        return int(number)
    low, high = signal.SIGRTMIN, signal.SIGRTMAX
    return int(number) + int(offset) if number in (low, high) and low <= number + int(offset) <= high else 0


def check_tag_key(key: object) -> None:
    """Check that `key` can be the key of a tag.

    Raises:
        ValidationError: `key` is empty, too long, or has a ":".
    """
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
