"""The field type of `since` and `until`: a moment, in any of the forms in which people and programs have it."""

import re
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields

from outlast.api.schemas.fields import MAX_INTEGER, MESSAGES
from outlast.model.clock import now_ms

_MILLISECONDS = re.compile(r"[0-9]{1,16}")
_SECONDS = re.compile(r"[0-9]{10}(\.[0-9]+)?")
_LEAST_MS = 10**11
"""Milliseconds below which a number is a mistake: it would be in the years 1970 to 1973. 0 stands for the beginning."""
_AGO = re.compile(r"(?=.)(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1000)
_RFC_3339 = re.compile(r"([0-9-]{10})[Tt ]([0-9:]{8}(?:\.[0-9]{1,9})?)(?:[Zz]|([+ -])([0-9]{2}:[0-9]{2}))")
_FORMS = (
    "a time with its offset, such as 2026-11-27T10:00:00Z, a duration before now, such as 10m or 1h30m, or "
    "milliseconds since 1970"
)


class Moment(int):
    """Milliseconds since the epoch. `is_relative`: whether it was given as a duration before now."""

    is_relative = False


class MomentField(fields.Field[Moment]):
    """A moment. Loads as a `Moment`."""

    default_error_messages = MESSAGES

    def __init__(self, *, metadata: dict[str, Any]) -> None:
        description = f"{metadata['description']} Give {_FORMS}."
        milliseconds = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
        forms = [
            {**milliseconds, "not": {"minimum": 1, "maximum": _LEAST_MS - 1}},
            {"type": "string", "format": "date-time"},
            {"type": "string", "minLength": 2, "pattern": "^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"},
        ]
        super().__init__(metadata={**metadata, "description": description, "anyOf": forms})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Moment:
        del attr, data, kwargs
        text = str(value)
        if _SECONDS.fullmatch(text):
            raise ValidationError(f"is in seconds: it must be {_FORMS}")
        if _MILLISECONDS.fullmatch(text) and int(text) <= MAX_INTEGER:
            if 0 < int(text) < _LEAST_MS:
                raise ValidationError(f"is too small a number for a time: it must be {_FORMS}")
            return Moment(text)
        if match := _AGO.fullmatch(text):
            ago_ms = sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS_MS, strict=True))
            moment = Moment(max(0, now_ms() - ago_ms))
            moment.is_relative = True
            return moment
        if match := _RFC_3339.fullmatch(text):
            date, time, sign, offset = match.groups()
            # A space stands for a plus that was not escaped in the query string.
            zone = f"{'-' if sign == '-' else '+'}{offset}" if offset else "+00:00"
            try:
                seconds = datetime.fromisoformat(f"{date}T{time}{zone}").timestamp()
            except ValueError:
                pass  # there is no such day, or no such time
            else:
                return Moment(max(0, round(seconds * 1000)))
        raise ValidationError(f"must be {_FORMS}")
