"""Handlers of projects."""

from dataclasses import asdict
from http import HTTPStatus

from aiohttp import web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.api.schemas.projects import NAME_FORM, check_project_name, make_application
from outlast.model.errors import InvalidRequest


async def list_projects(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/projects."""
    return json_response({"projects": request.app[app_keys.PROJECTS].names()})


async def apply(request: web.Request, given: RequestInput) -> web.Response:
    """PUT /api/v1/projects/{project}."""
    name = request.match_info["project"]
    if not check_project_name(name):
        raise InvalidRequest(f"the name of a project {NAME_FORM}")
    application = make_application(given.body, given.query)
    return json_response(asdict(await request.app[app_keys.PROJECTS].apply(name, application)))


async def show(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/projects/{project}."""
    view = await request.app[app_keys.PROJECTS].view(request.match_info["project"], given.query["wait"])
    record = view.record
    processes = {
        short: {
            "status": outcome.status,
            "reason": outcome.reason,
            "id": record.entries[short].process_id,
            "depends_on": dict(record.entries[short].needs),
        }
        for short, outcome in view.outcomes.items()
        if short in record.entries
    }
    return json_response(
        {
            "name": record.name,
            "folder": record.folder,
            "settled": view.is_settled,
            "processes": processes,
            "orphans": sorted(record.orphans),
        }
    )


async def end(request: web.Request, given: RequestInput) -> web.Response:
    """DELETE /api/v1/projects/{project}."""
    name, query = request.match_info["project"], given.query
    has_ended = await request.app[app_keys.PROJECTS].end(name, frozenset(query["process"]), query["wait"])
    return web.Response(status=HTTPStatus.NO_CONTENT if has_ended else HTTPStatus.ACCEPTED)
