"""Searching the output of many processes over HTTP."""

from dataclasses import replace
from typing import Any

import orjson
from aiohttp import hdrs, web
from marshmallow import post_load, validate

from outlast.api import app_keys
from outlast.api.cursor import seal, unseal
from outlast.api.handlers.output import JSON, NDJSON
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.api.schemas import fields, line_fields
from outlast.api.schemas.base import Strict
from outlast.core.query.matcher import make_matcher
from outlast.core.query.search import Match, SearchQuery
from outlast.model.process import Order

_MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100
_DEFAULT_TIMEOUT_MS = 10_000
_MAX_SECONDS = 60
_FOREIGN = "belongs to another search: repeat the parameters of the page before (limit may change)"


class SearchParameters(Strict):
    """GET /api/v1/search. Loads as a `SearchQuery`, and what tells this search from others."""

    q = fields.String(
        required=True,
        validate=line_fields.PATTERN,
        metadata={
            "description": "What a line must hold. A part of a line that was printed before its rest is a line of its "
            "own here.",
            "example": "error",
        },
    )
    regex = fields.QueryFlag(load_default=False, metadata={"description": f"`q` {line_fields.REGEX}"})
    ignore_case = fields.QueryFlag(
        load_default=False,
        metadata={"description": "Upper and lower case are alike, in every script; no letter is like two."},
    )
    stream = line_fields.StreamName(metadata={"description": "Only this stream."})
    since = fields.QueryInteger(metadata={"description": "Only lines read at or after this time."})
    until = fields.QueryInteger(metadata={"description": "Only lines read at or before this time."})
    tag = fields.TagFilters(
        metadata={"description": "Only output of processes with this tag, as `key:value`; repeat it for several."}
    )
    process = fields.Ulid(metadata={"description": "Only output of the process with this `id`."})
    name = fields.String(
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={"description": "Only output of processes that were given exactly this name."},
    )
    order = fields.Choice(
        Order, load_default=Order.NEWEST, metadata={"description": "Which come first.", "default": Order.NEWEST}
    )
    limit = fields.QueryInteger(
        low=1,
        high=_MAX_LIMIT,
        load_default=_DEFAULT_LIMIT,
        metadata={"description": "How many lines to answer with at most."},
    )
    cursor = fields.String(
        metadata={"description": "`next` of the page before; the other parameters but `limit` must stay the same."}
    )
    timeout = fields.QuerySeconds(
        load_default=_DEFAULT_TIMEOUT_MS,
        high=_MAX_SECONDS,
        metadata={
            "description": "Seconds after which to answer with what has been found, and with `next` to go on. A few "
            "searches work at once, and the others wait for their turn within this time.",
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
        asked = {key: value for key, value in data.items() if key not in ("cursor", "limit", "timeout")}
        if "cursor" in data:
            position, seq = unseal(data["cursor"], 2, asked, _FOREIGN)
            query = replace(query, position=position, seq=seq)
        return query, asked


async def search(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/search."""
    query, asked = given.query
    page = await request.app[app_keys.MANAGER].queries.search(query)
    matches = [_match(match) for match in page.matches]
    end = {"next": seal(page.next, asked) if page.next else None, "complete": page.complete}
    if preferred(request.headers.get(hdrs.ACCEPT, ""), (JSON, NDJSON)) == JSON:
        return json_response({"matches": matches, **end})
    body = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in (*matches, end))
    return web.Response(body=body, content_type=NDJSON, headers={hdrs.VARY: hdrs.ACCEPT})


def _match(match: Match) -> dict[str, Any]:
    spec = match.process.spec
    return {
        "process_id": spec.id,
        "name": spec.name,
        "command": spec.command,
        "run": match.run,
        "pid": match.pid,
        "seq": match.seq,
        "timestamp": match.ts_ms,
        "stream": match.stream.word,
        "line": match.data.removesuffix(b"\n").decode("utf-8", "replace"),
    }
