"""Bodies and query strings of calls about the sessions of terminals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields, terminal_fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.processes import StartBody
from outlast.api.schemas.terminal_fields import SizeBody
from outlast.core.commands.start_request import StartRequest
from outlast.model.options import Options, Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """Request to attach to a session: with which token, and behind how many bytes of output. None: not given."""

    token: str | None
    after: int | None


class SessionBody(SizeBody, StartBody):
    """POST /api/v1/pty. Loads as a `StartRequest`."""

    class Meta:
        """The fields that clients of terminals know."""

        fields = ("command", "args", "env", "working_dir", "rows", "cols")

    example: Mapping[str, Any] = {"command": "/bin/bash", "args": ["-l"], "rows": 24, "cols": 80}

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> StartRequest:
        given = {key: value for key, value in data.items() if value is not None}
        return StartRequest(
            command=given["command"],
            args=tuple(given.get("args", ())),
            env=given.get("env", {}),
            working_dir=given.get("working_dir"),
            options=Options(terminal=terminal_fields.make_terminal(given)),
        )


class ResizeBody(Strict):
    """POST /api/v1/pty/{session}/resize. Loads as a `Terminal`."""

    example: Mapping[str, Any] = {"rows": 50, "cols": 132}

    rows = terminal_fields.rows(required=True)
    cols = terminal_fields.cols(required=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Terminal:
        return terminal_fields.make_terminal(data)


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
    after = fields.QueryInteger(
        metadata={
            "description": "Continue behind this many bytes of output, instead of showing the screen. The first "
            "message is then a byte 4 and, as 8 bytes, the number of bytes of output before the next message."
        }
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AttachRequest:
        return AttachRequest(token=data.get("token"), after=data.get("after"))
