"""Handlers that log browsers in and out."""

import time
from http import HTTPStatus

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.auth import MISTYPED, USED_UP, Asked
from outlast.api.login_page import local, read_form
from outlast.api.logins import CODE_S
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response


async def log_in(request: web.Request, _: RequestInput) -> web.Response:
    """POST /login."""
    guard = request.app[app_keys.GUARD]
    form = read_form(await request.read())
    destination = form.get("next", "/")
    if not guard.is_token(form.get("token", "")):
        return guard.unauthorized(Asked.of_request(request, destination), MISTYPED)
    return _go(destination, guard.logins.new_cookie())


async def log_in_by_code(request: web.Request, given: RequestInput) -> web.Response:
    """GET /login."""
    guard = request.app[app_keys.GUARD]
    code, destination = given.query["code"], given.query["next"]
    if code is None and guard.is_authenticated(request):
        return _go(destination)
    if code is None or not guard.logins.take_code(code):
        return guard.unauthorized(Asked.of_request(request, destination), "" if code is None else USED_UP)
    return _go(destination, guard.logins.new_cookie())


async def log_out(request: web.Request, _: RequestInput) -> web.Response:
    """POST /logout."""
    return _go("/", request.app[app_keys.GUARD].logins.no_cookie())


async def make_code(request: web.Request, _: RequestInput) -> web.Response:
    """POST /api/v1/login-codes."""
    code = request.app[app_keys.GUARD].logins.new_code()
    expires_at = round((time.time() + CODE_S) * 1000)
    return json_response({"code": code, "path": f"/login?code={code}", "expires_at": expires_at}, HTTPStatus.CREATED)


def _go(destination: str, cookie: str | None = None) -> web.Response:
    headers = {hdrs.LOCATION: local(destination), "Referrer-Policy": "no-referrer"}
    if cookie is not None:
        headers[hdrs.SET_COOKIE] = cookie
    return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)
