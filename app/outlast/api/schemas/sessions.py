"""Bodies and query strings of calls about the sessions of terminals."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, post_load

from outlast.api.schemas import fields, terminal_fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.processes import StartBody
from outlast.api.schemas.terminal_fields import SizeBody
from outlast.core.commands.start_request import StartRequest
from outlast.model.options import Options, Terminal

_ORIGIN = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+$")


def _check_origin(origin: str) -> None:
    if not _ORIGIN.match(origin):
        raise ValidationError("must be an origin: scheme and host, such as https://app.example.com, without a path")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """Request to attach to a session.

    Attributes:
        token: token of the session; None: not given.
        after: number of bytes of output behind which to continue; None: show the screen.
        positions: whether positions are told.
    """

    token: str | None
    after: int | None
    positions: bool


class SessionBody(SizeBody, StartBody):
    """POST /api/v1/pty. Loads as a `StartRequest`."""

    class Meta:
        """The fields that clients of terminals know, and what is kept of the session."""

        fields = ("command", "args", "env", "working_dir", "rows", "cols", "keep")

    example: Mapping[str, Any] = {"command": "/bin/bash", "args": ["-l"], "rows": 24, "cols": 80}

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> StartRequest:
        given = {key: value for key, value in data.items() if value is not None}
        return StartRequest(
            command=given["command"],
            args=tuple(given.get("args", ())),
            env=given.get("env", {}),
            working_dir=given.get("working_dir"),
            options=Options(terminal=terminal_fields.make_terminal(given), keep=given.get("keep")),
        )


class ResizeBody(Strict):
    """POST /api/v1/pty/{session}/resize. Loads as a `Terminal`."""

    example: Mapping[str, Any] = {"rows": 50, "cols": 132}

    rows = terminal_fields.rows(required=True)
    cols = terminal_fields.cols(required=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Terminal:
        return terminal_fields.make_terminal(data)


class TicketBody(Strict):
    """POST /api/v1/pty/{session}/tickets. Loads as the origin, in lower case; None: that of this server."""

    example: Mapping[str, Any] = {"origin": "https://app.example.com"}

    origin = fields.String(
        allow_none=True,
        validate=_check_origin,
        metadata={
            "description": "Site whose pages may use the ticket, as browsers name it: scheme, host, and the port if "
            "it is not that of the scheme. Default: this server's own.",
            "pattern": _ORIGIN.pattern,
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> str | None:
        origin: str | None = data.get("origin")
        return None if origin is None else origin.lower()


class RecordingQuery(Strict):
    """GET /api/v1/processes/{ref}/recording. Loads as the version of the format."""

    version = fields.QueryInteger(
        low=2, high=3, load_default=3, metadata={"description": "Version of the format: 3 (default) or 2."}
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> int:
        version: int = data["version"]
        return version


class AttachQuery(Strict):
    """GET /api/v1/pty/{session}/ws. Loads as an `AttachRequest`."""

    token = fields.String(
        metadata={"description": "Token of the session. The header `X-PTY-Token` does the same, and counts before it."}
    )
    ticket = fields.String(
        metadata={"description": "Ticket of `POST /api/v1/pty/{session}/tickets`, in place of the daemon's token."}
    )
    after = fields.QueryInteger(
        metadata={
            "description": "Continue behind this many bytes of output, instead of showing the screen. Positions are "
            "told, too."
        }
    )
    positions = fields.QueryFlag(
        load_default=False,
        metadata={
            "description": "Tell positions: where what shows the screen is followed by what comes, and where output is "
            "missing, a message has byte 4 and, as 8 bytes, the number of bytes of output before the next message. "
            "Who counts the bytes from there continues with `after` when the connection breaks. Default false."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AttachRequest:
        after = data.get("after")
        return AttachRequest(token=data.get("token"), after=after, positions=data["positions"] or after is not None)
