"""Handlers of the sessions of terminals."""

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from outlast.api import app_keys
from outlast.api.auth import TICKET_FIELD
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.api.tickets import TICKET_S
from outlast.model.errors import NotFound, SessionNotFound
from outlast.model.exit_status import Status

if TYPE_CHECKING:
    from outlast.api.schemas.sessions import AttachRequest
    from outlast.core.terminals.sessions import Session

TOKEN_HEADER = "X-PTY-Token"  # noqa: S105 - the name of a header
_PATH_NAME = "session"


async def create(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/pty."""
    session_id, token = await request.app[app_keys.MANAGER].sessions.create(given.body)
    warnings = {"warnings": given.warnings} if given.warnings else {}
    return json_response({"session_id": session_id, "token": token, **warnings}, HTTPStatus.CREATED)


async def list_sessions(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/pty."""
    found = await request.app[app_keys.MANAGER].sessions.all()
    return json_response({"sessions": [session_info(session) for session in found]})


async def show(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/pty/{session}."""
    session = await request.app[app_keys.MANAGER].sessions.find(request.match_info[_PATH_NAME])
    return json_response(session_info(session))


async def resize(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/pty/{session}/resize."""
    sessions = request.app[app_keys.MANAGER].sessions
    session = await sessions.find(request.match_info[_PATH_NAME])
    sessions.resize(session, given.body.rows, given.body.cols)
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def delete(request: web.Request, _: RequestInput) -> web.Response:
    """DELETE /api/v1/pty/{session}."""
    await request.app[app_keys.MANAGER].sessions.delete(request.match_info[_PATH_NAME])
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def make_ticket(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/pty/{session}/tickets."""
    session = await request.app[app_keys.MANAGER].sessions.find(request.match_info[_PATH_NAME])
    path = f"/api/v1/pty/{session.process.spec.id}/ws"
    ticket = request.app[app_keys.GUARD].tickets.new(path, given.body)
    answer = {
        "ticket": ticket,
        "path": f"{path}?{TICKET_FIELD}={ticket}",
        "expires_at": round((time.time() + TICKET_S) * 1000),
    }
    return json_response(answer, HTTPStatus.CREATED)


async def attach(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/pty/{session}/ws."""
    from outlast.api.streaming import terminal_socket, websockets  # noqa: PLC0415 - as in the core

    wanted: AttachRequest = given.query
    sessions = request.app[app_keys.MANAGER].sessions
    try:
        session = await sessions.find(request.match_info[_PATH_NAME])
    except NotFound as exc:
        raise SessionNotFound(str(exc)) from None
    token = request.headers.get(TOKEN_HEADER, wanted.token)
    if token is not None:  # who has the daemon's own token may do everything
        sessions.check_token(session, token)
    socket = websockets.make_response(
        request, max_message_bytes=terminal_socket.MAX_MESSAGE_BYTES, piece_bytes=terminal_socket.PIECE_BYTES
    )
    await socket.prepare(request)
    client = terminal_socket.TerminalSocket(request, socket, sessions, session, request.app[app_keys.STOPPING])
    await client.serve(wanted.after, tells_positions=wanted.positions)
    return socket


def session_info(session: "Session") -> dict[str, Any]:
    """Return a session as `terminal_responses.SessionInfo` describes it."""
    run, spec = session.process.run, session.process.spec
    ending = session.live.ending if session.live is not None else run.ending
    info = {
        "session_id": spec.id,
        "pid": run.pid,
        "command": spec.command,
        "args": spec.args,
        "rows": session.rows,
        "cols": session.cols,
        "created_at": run.started_at_ms,
        "is_alive": session.is_alive,
        "ended_at": None if ending is None else ending.ended_at_ms,
        "exit_code": None if ending is None else ending.exit_number,
    }
    if ending is not None and ending.status is Status.OOM_KILLED:
        info["oom_killed"] = True
    return info
