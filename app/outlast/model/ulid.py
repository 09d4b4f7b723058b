"""ULIDs: permanent ids of processes, sortable by the time of creation (https://github.com/ulid/spec)."""

import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26
_RANDOM_BITS = 80
_TIME_BITS = 48


def new_ulid(now_ms: int) -> str:
    """Return a new ULID for the moment `now_ms`, milliseconds since the epoch."""
    value = ((now_ms & ((1 << _TIME_BITS) - 1)) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))


def is_ulid(text: str) -> bool:
    """Tell whether `text` is a ULID in its canonical, upper-case form."""
    return len(text) == _LENGTH and text[0] <= "7" and all(char in _ALPHABET for char in text)
