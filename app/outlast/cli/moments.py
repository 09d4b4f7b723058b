"""Times as people write them, and as they read them."""

import re
import time
from datetime import datetime, timedelta, timezone

import click

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def read_duration(word: str) -> float:
    """Return the seconds of a duration such as `10s`, `2h30m`, `500ms`, or of a number of seconds.

    Raises:
        ValueError: it is none.
    """
    if _DURATION.fullmatch(word):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(word))
    return float(word)


def read_moment(word: str, now_ms: int, zone: timezone | None) -> int:
    """Return a time as milliseconds since the Unix epoch.

    Args:
        word: `10m` (ago), `yesterday`, `today`, `09:30`, `2026-11-27`, RFC 3339, or `@` and seconds since 1970.
        now_ms: the time now.
        zone: zone of times that name none; None: that of this machine.

    Raises:
        ValueError: it is none.
    """
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    if word.startswith("@"):
        return round(float(word[1:]) * 1000)
    if _DURATION.fullmatch(word):
        return now_ms - round(read_duration(word) * 1000)
    if word in {"today", "yesterday"}:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return _ms(day - timedelta(days=word == "yesterday"), zone)
    if clock := _CLOCK.fullmatch(word):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        return _ms(now.replace(hour=hour, minute=minute, second=second, microsecond=0), zone)
    return _ms(datetime.fromisoformat(word), zone)


def _ms(when: datetime, zone: timezone | None) -> int:
    return round((when.replace(tzinfo=when.tzinfo or zone)).timestamp() * 1000)


def moment(word: str) -> int:
    """Return the time of an option, as milliseconds since the Unix epoch.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        return read_moment(word, time.time_ns() // 1_000_000, None)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{word!r} is not a time: give 10m (ago), yesterday, 09:30, 2026-11-27, 2026-11-27T10:00:00Z or @1795805538"
        ) from None


def duration(word: str) -> float:
    """Return the duration of an option, in seconds.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        return read_duration(word)
    except ValueError:
        raise click.BadParameter(f"{word!r} is not a duration: give seconds, or 500ms, 10s, 2h30m") from None


def show_age(seconds: float) -> str:
    """Return a duration in at most two units, such as `3h12m`."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S:02}h"


def show_moment(timestamp: int, form: str, zone: timezone | None) -> str:
    """Return a time. `form`: `clock` (time of day) or `iso`; `zone`: None is that of this machine."""
    when = datetime.fromtimestamp(timestamp / 1000, zone).astimezone(zone)
    if form == "iso":
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{when:%H:%M:%S}.{when.microsecond // 1000:03}"


def show_day(timestamp: int, zone: timezone | None) -> str:
    """Return the day of a time with its zone, such as `2026-11-28 +01:00`."""
    when = datetime.fromtimestamp(timestamp / 1000, zone).astimezone(zone)
    return f"{when:%Y-%m-%d} {when.tzname() or ''}".rstrip()
