"""The query string of a search."""

from dataclasses import replace
from typing import Any

from marshmallow import post_load

from outlast.api import cursor
from outlast.api.schemas import fields, line_fields
from outlast.api.schemas.moments import MomentField
from outlast.api.schemas.page_fields import OrderedPage, name_filter, page_limit, tag_filter
from outlast.core.query.matcher import make_matcher
from outlast.core.query.search import SearchQuery

_DEFAULT_TIMEOUT_MS = 10_000
_MAX_SECONDS = 60
_NOT_IDENTITY = ("cursor", "limit", "timeout", "since", "until")
_FOREIGN_CURSOR = "belongs to another search: repeat the parameters of the previous page (only limit may change)"


class SearchParameters(OrderedPage):
    """GET /api/v1/search. Loads as a `SearchQuery`, and the parameters that its cursors belong to."""

    q = fields.String(
        required=True,
        validate=line_fields.PATTERN,
        metadata={"description": "Text that a line must contain.", "example": "error"},
    )
    regex = fields.QueryFlag(load_default=False, metadata={"description": line_fields.regex_meaning("q")})
    ignore_case = fields.QueryFlag(load_default=False, metadata={"description": line_fields.IGNORE_CASE})
    stream = line_fields.StreamName(metadata={"description": "Only this stream."})
    since = MomentField(metadata={"description": "Only lines that were read at or after this time."})
    until = MomentField(metadata={"description": "Only lines that were read at or before this time."})
    tag = tag_filter("output of processes")
    process = fields.PermanentRef(
        metadata={"description": "Only output of the process with this permanent id or handle (`@12`)."}
    )
    name = name_filter("output of processes")
    limit = page_limit("lines", default=100, high=1000)
    timeout = fields.QuerySeconds(
        load_default=_DEFAULT_TIMEOUT_MS,
        high=_MAX_SECONDS,
        metadata={
            "description": "Maximum time in seconds. After it, the answer holds what was found so far, with `complete` "
            "false and `next` to continue. Only a few searches run at once; the time to wait for a turn counts.",
            "default": _DEFAULT_TIMEOUT_MS // 1000,
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[SearchQuery, dict[str, Any]]:
        query = SearchQuery(
            matcher=make_matcher(data["q"], "q", is_regex=data["regex"], ignore_case=data["ignore_case"]),
            stream=data.get("stream"),
            since_ms=data.get("since"),
            until_ms=data.get("until"),
            process_id=data.get("process"),
            name=data.get("name"),
            tags=data.get("tag", {}),
            order=data["order"],
            limit=data["limit"],
            timeout_s=data["timeout"] / 1000,
        )
        identity = {key: value for key, value in data.items() if key not in _NOT_IDENTITY}
        if "cursor" in data:
            bounds = (query.since_ms, query.until_ms)
            place, (since_ms, until_ms) = cursor.decode(data["cursor"], 2, identity, bounds, _FOREIGN_CURSOR)
            query = replace(query, position=place[0], seq=place[1], since_ms=since_ms, until_ms=until_ms)
        return query, identity
