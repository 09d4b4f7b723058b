"""Handler that searches the output of many processes."""

from dataclasses import replace
from typing import Any

from aiohttp import hdrs, web

from outlast.api import app_keys, cursor
from outlast.api.handlers.output import JSON, NDJSON, NDJSON_UTF_8
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.api.streaming import sse
from outlast.core.query.search import Match


async def search(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/search."""
    query, identity = given.query
    bounds = (query.since_ms, query.until_ms)
    manager = request.app[app_keys.MANAGER]
    if query.process_id is not None:
        query = replace(query, process_id=await manager.id_of(query.process_id))
    page = await manager.queries.search(query)
    matches = [_match(match) for match in page.matches]
    end = {"next": cursor.encode(page.next, identity, bounds) if page.next else None, "complete": page.complete}
    if preferred(request.headers.get(hdrs.ACCEPT, ""), (JSON, NDJSON)) == JSON:
        return json_response({"matches": matches, **end})
    body = b"".join(map(sse.ndjson_line, (*matches, end)))
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: NDJSON_UTF_8, hdrs.VARY: hdrs.ACCEPT})


def _match(match: Match) -> dict[str, Any]:
    spec = match.process.spec
    return {
        "process_id": spec.id,
        "handle": match.process.handle,
        "name": spec.name,
        "command": spec.command,
        "run": match.run,
        "pid": match.pid,
        "seq": match.seq,
        "timestamp": match.ts_ms,
        "stream": match.stream.word,
        "line": match.data.removesuffix(b"\n").decode("utf-8", "replace"),
        "spans": match.spans,
    }
