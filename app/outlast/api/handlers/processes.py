"""Handlers that start, list, show, signal, restart and kill processes."""

from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from outlast.api import app_keys
from outlast.api.cursor import page_cursor
from outlast.api.handlers.serializers import process_info, run_info
from outlast.api.handlers.stats import listed_with_usage
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response, ref_of
from outlast.api.schemas.fields import MAX_INTEGER
from outlast.api.schemas.lists import ListRequest
from outlast.api.schemas.processes import DeleteRequest, SignalRequest
from outlast.api.schemas.runs import RunsPage
from outlast.core.commands.start_request import StartRequest
from outlast.model.process import Order, ProcessQuery, Status


async def start(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/processes."""
    start_request: StartRequest = given.body
    outcome = await request.app[app_keys.MANAGER].start(start_request)
    warnings = {"warnings": given.warnings} if given.warnings else {}
    status = HTTPStatus.CREATED if outcome.created else HTTPStatus.OK
    return json_response({**process_info(outcome.view), **warnings}, status)


async def list_processes(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes."""
    wanted: ListRequest = given.query
    query = wanted.query
    manager = request.app[app_keys.MANAGER]
    # One more than requested tells whether there is a next page.
    found = await manager.list(replace(query, limit=query.limit + 1), with_usage=wanted.with_usage)
    page = found[: query.limit]
    following = None
    if len(found) > query.limit:
        last = page[-1].process.handle
        following = page_cursor(query, last)
        if wanted.adds_running and query.status in (None, Status.RUNNING):
            page += await manager.list(running_behind(query, last), with_usage=wanted.with_usage)
    show = listed_with_usage if wanted.with_usage else process_info
    return json_response({"processes": list(map(show, page)), "next": following})


def running_behind(query: ProcessQuery, handle: int) -> ProcessQuery:
    """Return the query of all processes that run and come after the process `handle` in the list of `query`."""
    query = replace(query, status=Status.RUNNING, limit=MAX_INTEGER)
    if query.order is Order.OLDEST:
        return replace(query, after_handle=handle)
    return replace(query, before_handle=handle)


async def show(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}."""
    return json_response(process_info(await request.app[app_keys.MANAGER].get(ref_of(request))))


async def delete(request: web.Request, given: RequestInput) -> web.Response:
    """DELETE /api/v1/processes/{ref}."""
    deletion: DeleteRequest = given.query
    manager = request.app[app_keys.MANAGER]
    end = manager.purge if deletion.purge else manager.kill
    left = await end(ref_of(request), deletion.wait_s, deletion.grace_ms)
    if left is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return json_response({**process_info(left), "warnings": [left.warning]}, HTTPStatus.ACCEPTED)


async def restart(request: web.Request, _: RequestInput) -> web.Response:
    """POST /api/v1/processes/{ref}/restart."""
    return json_response(process_info(await request.app[app_keys.MANAGER].restart(ref_of(request))))


async def put(request: web.Request, given: RequestInput) -> web.Response:
    """PUT /api/v1/processes/{ref}."""
    outcome = await request.app[app_keys.MANAGER].change(ref_of(request), given.body)
    warnings = {"warnings": given.warnings} if given.warnings else {}
    return json_response({**process_info(outcome.view), "changed": outcome.changed, **warnings})


async def list_runs(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}/runs."""
    page: RunsPage = given.query
    found = await request.app[app_keys.MANAGER].runs(ref_of(request), before_number=page.before, limit=page.limit + 1)
    shown = found[: page.limit]
    following = str(shown[-1].number) if len(found) > page.limit else None
    return json_response({"runs": [run_info(run) for run in shown], "next": following})


async def send_signal(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/processes/{ref}/signal."""
    signal: SignalRequest = given.body
    await request.app[app_keys.MANAGER].signal(ref_of(request), signal.number, signal.scope)
    return json_response({"success": True})
