"""Where a page ends: an opaque text that belongs to one question, so that no page is taken for the next of another."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from marshmallow import ValidationError

from outlast.model.process import Order, ProcessQuery

_NUMBER_BYTES = 7  # so that whatever comes in is a number that every store can take
_MARK_BYTES = 8


def seal(place: Sequence[int], asked: Any) -> str:
    """Make a cursor.

    Args:
        place: where to go on: numbers >= 0.
        asked: what tells the question from others, ready for JSON.
    """
    raw = b"".join(number.to_bytes(_NUMBER_BYTES) for number in place) + _mark(asked)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unseal(cursor: str, count: int, asked: Any, foreign: str) -> list[int]:
    """Return the `count` numbers that `seal` was given.

    Raises:
        ValidationError: it is not one of our cursors; or it belongs to another question, and `foreign` says so.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    end = count * _NUMBER_BYTES
    if len(raw) != end + _MARK_BYTES:
        raise ValidationError({"cursor": ["must be `next` of the page before"]})
    if raw[end:] != _mark(asked):
        raise ValidationError({"cursor": [foreign]})
    return [int.from_bytes(raw[start : start + _NUMBER_BYTES]) for start in range(0, end, _NUMBER_BYTES)]


def _mark(asked: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=_MARK_BYTES).digest()


def make_cursor(query: ProcessQuery, handle: int) -> str:
    """Make the cursor that goes on behind the process `handle` of the list that `query` asks for."""
    return seal([handle], _asked(query))


def go_on(query: ProcessQuery, cursor: str) -> ProcessQuery:
    """Return `query` for the page behind `cursor`.

    Raises:
        ValidationError: it is not one of our cursors, or belongs to another list.
    """
    foreign = "belongs to a list with other parameters: repeat those of the page before (limit may change)"
    (handle,) = unseal(cursor, 1, _asked(query), foreign)
    if query.order is Order.OLDEST:
        return replace(query, after_handle=handle)
    return replace(query, before_handle=handle)


def _asked(query: ProcessQuery) -> list[Any]:
    """Return what tells lists apart."""
    return [query.status, query.name, dict(query.tags), query.since_ms, query.until_ms, query.order]
