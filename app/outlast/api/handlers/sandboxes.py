"""Handlers by which clients that manage sandboxes find this machine: one sandbox, which is always there."""

import os
from http import HTTPStatus
from typing import Any

from aiohttp import web

from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.model.errors import NotFound

ID = "local"
_MEBIBYTE = 1 << 20


async def introspect(_request: web.Request, _: RequestInput) -> web.Response:
    """POST /platform/v1/keys/introspect: the guard has checked the token."""
    return json_response({"id": ID, "organizationId": ID, "projectId": ID})


async def list_sandboxes(request: web.Request, _: RequestInput) -> web.Response:
    """GET /v1/namespaces/{namespace}/sandboxes."""
    return json_response({"sandboxes": [_sandbox(request)]})


async def create(request: web.Request, _: RequestInput) -> web.Response:
    """POST /v1/namespaces/{namespace}/sandboxes: nothing is made, whatever the body asks for."""
    return json_response({"sandbox_id": ID, "status": "running", "sandbox_url": _url(request)})


async def show(request: web.Request, _: RequestInput) -> web.Response:
    """GET /v1/namespaces/{namespace}/sandboxes/{sandbox}."""
    _check_id(request)
    return json_response(_sandbox(request))


async def delete(request: web.Request, _: RequestInput) -> web.Response:
    """DELETE /v1/namespaces/{namespace}/sandboxes/{sandbox}: nothing ends."""
    _check_id(request)
    return web.Response(status=HTTPStatus.NO_CONTENT)


def _check_id(request: web.Request) -> None:
    name = request.match_info["sandbox"]
    if name != ID:
        raise NotFound(f"there is no sandbox {name[:64]!r}: this machine is the only one, and its id is {ID}")


def _url(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _sandbox(request: web.Request) -> dict[str, Any]:
    disk = os.statvfs("/")
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "id": ID,
        "namespace": request.match_info["namespace"],
        "status": "running",
        "resources": {
            "cpus": len(os.sched_getaffinity(0)),
            "memory_mb": memory_bytes // _MEBIBYTE,
            "disk_mb": disk.f_blocks * disk.f_frsize // _MEBIBYTE,
        },
        "sandbox_url": _url(request),
    }
