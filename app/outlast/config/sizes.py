"""Sizes in settings: bytes, or a part of a file system."""

import re

from outlast.model.errors import ConfigError

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}) ?(|KiB|MiB|GiB|TiB)")
_PART = re.compile(r"(\d{1,2}|100) ?%")
MOST_BYTES = 1 << 62


def read_size(name: str, value: object) -> int:
    """Return the bytes that a setting says: an integer, or a text such as "256 MiB".

    Raises:
        ConfigError: it is neither.
    """
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(match[1]) * _UNITS[match[2]] if match else value
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MOST_BYTES:
        raise ConfigError(f'{name} must be a number of bytes, such as 268435456 or "256 MiB", not {value!r}')
    return size


def read_part(name: str, value: object) -> str:
    """Return a setting that is a size, or a part of a file system, such as "20%": its text, for `resolve_part`.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, str) and _PART.fullmatch(value):
        return value
    try:
        return str(read_size(name, value))
    except ConfigError:
        raise ConfigError(
            f'{name} must be a part of the file system, such as "20%", or a number of bytes, such as "20 GiB", '
            f"not {value!r}"
        ) from None


def resolve_part(text: str, whole_bytes: int, most_bytes: int) -> int:
    """Return the bytes that the result of `read_part` says: of a part, that of `whole_bytes`, `most_bytes` at most."""
    match = _PART.fullmatch(text)
    return min(whole_bytes * int(match[1]) // 100, most_bytes) if match else int(text)
