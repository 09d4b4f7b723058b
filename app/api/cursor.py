"""Where a list goes on: an opaque text that belongs to one list, so that no page is taken for the next of another."""

import base64
import binascii
import hashlib
from dataclasses import replace

import orjson
from marshmallow import ValidationError

from app.model.process import Order, ProcessQuery

_HANDLE_BYTES = 7  # so that whatever comes in is a number that every store can take
_MARK_BYTES = 8


def make_cursor(query: ProcessQuery, handle: int) -> str:
    """Make the cursor that goes on behind the process `handle` of the list that `query` asks for."""
    raw = handle.to_bytes(_HANDLE_BYTES) + _mark(query)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def go_on(query: ProcessQuery, cursor: str) -> ProcessQuery:
    """Return `query` for the page behind `cursor`.

    Raises:
        ValidationError: it is not one of our cursors, or belongs to another list.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _HANDLE_BYTES + _MARK_BYTES:
        raise ValidationError({"cursor": ["must be `next` of the page before"]})
    if raw[_HANDLE_BYTES:] != _mark(query):
        raise ValidationError(
            {"cursor": ["belongs to a list with other parameters: repeat those of the page before (limit may change)"]}
        )
    handle = int.from_bytes(raw[:_HANDLE_BYTES])
    if query.order is Order.OLDEST:
        return replace(query, after_handle=handle)
    return replace(query, before_handle=handle)


def _mark(query: ProcessQuery) -> bytes:
    """Return what tells lists apart."""
    asked = [query.status, query.name, dict(query.tags), query.since_ms, query.until_ms, query.order]
    return hashlib.blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=_MARK_BYTES).digest()
