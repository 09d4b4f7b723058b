"""Handlers of calls about the daemon itself."""

from http import HTTPStatus

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.errors import error_response
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.model.errors import Unavailable


async def health(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/health."""
    manager = request.app[app_keys.MANAGER]
    reason = manager.health()
    if reason is None:
        warnings = await manager.warnings()
        return json_response({"healthy": True, **({"warnings": warnings} if warnings else {})})
    retry = {str(hdrs.RETRY_AFTER): str(Unavailable.retry_after_s)}
    return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", reason, retry, healthy=False)


async def info(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/info."""
    manager = request.app[app_keys.MANAGER]
    return json_response(
        {
            "version": request.app[app_keys.VERSION],
            "shim_version": manager.shim_version,
            "uptime_secs": int(manager.uptime_s),
            "running_processes": manager.running(),
            "total_processes": manager.total(),
            "adopted": manager.why_held is None,
        }
    )
