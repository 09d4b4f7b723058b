"""Calls that start, show, signal and end processes."""

from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from app.api import keys
from app.api.cursor import make_cursor
from app.api.intake import Given
from app.api.presentation import process_info
from app.api.route import json_response, ref_of
from app.api.schemas import Removal, Sending
from app.core.request import StartRequest
from app.model.process import ProcessQuery


async def start(request: web.Request, given: Given) -> web.Response:
    """POST /api/v1/processes."""
    start_request: StartRequest = given.body
    outcome = await request.app[keys.MANAGER].start(start_request)
    return json_response(process_info(outcome.view), HTTPStatus.CREATED if outcome.created else HTTPStatus.OK)


async def list_all(request: web.Request, given: Given) -> web.Response:
    """GET /api/v1/processes."""
    query: ProcessQuery = given.query
    # One more than asked for tells whether there is a next page.
    found = await request.app[keys.MANAGER].list(replace(query, limit=query.limit + 1))
    page = found[: query.limit]
    more = len(found) > query.limit
    return json_response(
        {
            "processes": [process_info(view) for view in page],
            "next": make_cursor(query, page[-1].process.handle) if more else None,
        }
    )


async def show(request: web.Request, _: Given) -> web.Response:
    """GET /api/v1/processes/{ref}."""
    return json_response(process_info(await request.app[keys.MANAGER].get(ref_of(request))))


async def remove(request: web.Request, given: Given) -> web.Response:
    """DELETE /api/v1/processes/{ref}."""
    removal: Removal = given.query
    manager = request.app[keys.MANAGER]
    left = await (manager.purge if removal.purge else manager.kill)(ref_of(request), removal.wait_s)
    if left is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return json_response(process_info(left), HTTPStatus.ACCEPTED)


async def send_signal(request: web.Request, given: Given) -> web.Response:
    """POST /api/v1/processes/{ref}/signal."""
    sending: Sending = given.body
    await request.app[keys.MANAGER].signal(ref_of(request), sending.number, sending.scope)
    return json_response({"success": True})
