"""What each call accepts, in its body and in its query string. Unknown fields are errors everywhere.

Loading gives what the rest of the program speaks: `StartRequest`, `OutputQuery`. What lists accept: `list_schemas`.
"""

from dataclasses import dataclass
from typing import Any

import marshmallow
from marshmallow import post_load, validate

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.limits import LimitsBody
from outlast.api.schemas.line_fields import check_one_line
from outlast.api.schemas.managed import MAX_WAIT_MS, HealthCheckBody, RestartBody
from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.termination import KILL_WAIT_S
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.options import DEFAULT_STOP_GRACE_MS, Limits, Options
from outlast.model.process import OutputMode, SignalScope, StdinMode

MAX_KILL_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Which stored output to answer with: `where` it is, lines that hold `grep`, `limit` lines at most."""

    where: OutputQuery
    limit: int | None
    grep: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRequest:
    """How to delete a process: with `purge`, its record and output too; how long to wait until it is gone."""

    purge: bool
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRequest:
    """Which signal to send, and to what."""

    number: int
    scope: SignalScope


_ID = {"type": "integer", "minimum": 0, "maximum": fields.MAX_ID}


class StartBody(Strict):
    """POST /api/v1/processes."""

    command = fields.String(
        required=True,
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={
            "description": "Program to start: a path, or a name looked up in PATH.",
            "example": "python",
        },
    )
    args = fields.Strings(
        allow_none=True,
        metadata={
            "description": "Its arguments, without the command itself.",
            "example": ["-m", "http.server"],
        },
    )
    env = fields.Environment(
        allow_none=True,
        metadata={
            "description": "Environment variables to set. Their values are never returned and never logged. The values of a "
            "managed process are stored encrypted (the key is `env.key` in the state folder), because later runs need "
            "them; the values of any other process are not stored.",
            "additionalProperties": {"type": "string"},
        },
    )
    working_dir = fields.String(
        allow_none=True,
        validate=validate.Regexp("/", error='must be an absolute path (one that starts with "/")'),
        metadata={"description": "Absolute path in which it starts.", "pattern": "^/"},
    )
    user = fields.User(
        allow_none=True,
        metadata={
            "description": "Whom to run as; the daemon's own user unless given.",
            "anyOf": [
                {"type": "string", "minLength": 1, "examples": ["www-data", "1000:1000"]},
                {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "uid": {"type": "null"},
                        "gid": {"type": "null"},
                    },
                    "required": ["name"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"name": {"type": "null"}, "uid": _ID, "gid": {**_ID, "type": ["integer", "null"]}},
                    "required": ["uid"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ],
        },
    )
    stdin_mode = fields.Choice(
        StdinMode,
        allow_none=True,
        metadata={"description": "`pipe` makes standard input writable through the API. Default `closed`."},
    )
    stdout_mode = fields.Choice(
        OutputMode,
        allow_none=True,
        metadata={"description": "`capture` (default) keeps every line, `discard` none."},
    )
    stderr_mode = fields.Choice(
        OutputMode,
        allow_none=True,
        metadata={"description": "`capture` (default) keeps every line, `discard` none."},
    )
    nice = fields.Integer(
        low=-20,
        high=19,
        allow_none=True,
        metadata={
            "description": "How far it stands back for others: -20 (least) to 19. Below the daemon's own needs a right."
        },
    )
    limits = fields.Nested(
        LimitsBody,
        allow_none=True,
        metadata={"description": "What it may use. What can't be had here is refused (SPAWN_FAILED), never ignored."},
    )
    tags = fields.Tags(
        allow_none=True,
        metadata={
            "description": "Labels to find it by.",
            "additionalProperties": {"type": "string", "maxLength": fields.MAX_TAG_VALUE_CHARS},
            "maxProperties": fields.MAX_TAGS,
        },
    )

    name = fields.Name(
        allow_none=True,
        metadata={
            "description": "Makes it a managed process, found by this name. Not only digits, not a ULID, without `/`; "
            "at most one live process holds it.",
            "minLength": 1,
            "maxLength": fields.MAX_NAME_CHARS,
        },
    )
    restart = marshmallow.fields.Nested(
        RestartBody,
        allow_none=True,
        metadata={"description": "Makes it a managed process: when it is started again."},
    )
    health_check = marshmallow.fields.Nested(
        HealthCheckBody,
        allow_none=True,
        metadata={"description": "Makes it a managed process: one that is unhealthy is killed, which is a failure."},
    )
    stop_grace_ms = fields.Integer(
        allow_none=True,
        high=MAX_WAIT_MS,
        metadata={"description": "From SIGTERM to SIGKILL when a managed process is stopped. Default 10,000."},
    )

    timeout = fields.Seconds(
        allow_none=True,
        metadata={
            "description": "Seconds that it may run. Then it is killed with all that it started, also "
            "while no daemon is there, and the reason of its end is `timed_out`.",
            "example": 30,
        },
    )
    idempotency_key = fields.Key(
        allow_none=True,
        metadata={
            "description": "Printable. A start with the same key again gives the process that has it, as it is then "
            "(ended, perhaps), also after restarts, until it is purged: a start that got no answer can be asked for "
            "again. With another `command` or `args` it is refused; the other fields are not compared. A key whose "
            "start failed is free.",
            "minLength": 1,
            "maxLength": fields.MAX_KEY_CHARS,
            "example": "nightly-backup-2026-11-23",
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> StartRequest:
        given = {key: value for key, value in data.items() if value is not None}
        return StartRequest(
            command=given["command"],
            args=tuple(given.get("args", ())),
            env=given.get("env", {}),
            working_dir=given.get("working_dir"),
            user=given.get("user"),
            stdin_mode=given.get("stdin_mode", StdinMode.CLOSED),
            stdout_mode=given.get("stdout_mode", OutputMode.CAPTURE),
            stderr_mode=given.get("stderr_mode", OutputMode.CAPTURE),
            name=given.get("name"),
            tags=given.get("tags", {}),
            options=Options(
                timeout_ms=given.get("timeout"),
                nice=given.get("nice"),
                limits=given.get("limits", Limits()),
                stop_grace_ms=given.get("stop_grace_ms", DEFAULT_STOP_GRACE_MS),
                restart=given.get("restart"),
                health_check=given.get("health_check"),
            ),
            idempotency_key=given.get("idempotency_key"),
        )


class RunBody(StartBody):
    """POST /api/v1/processes/run: a start of what ends."""

    class Meta:
        """What makes a process managed is left out."""

        exclude = ("name", "restart", "health_check", "stop_grace_ms")


class RunQuery(Strict):
    """POST /api/v1/processes/run. Loads as whether to detach."""

    detach = fields.QueryFlag(
        load_default=False,
        metadata={"description": "Let it go on when the caller hangs up."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> bool:
        detach: bool = data["detach"]
        return detach


class SignalBody(Strict):
    """POST .../signal. Loads as a `SignalRequest`."""

    signal = fields.SignalNumber(
        required=True,
        metadata={
            "description": 'Number, or name such as "SIGTERM" or "TERM".',
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": fields.MAX_SIGNAL}, {"type": "string"}],
            "examples": [15, "SIGTERM"],
        },
    )

    scope = fields.Choice(
        SignalScope,
        load_default=SignalScope.GROUP,
        metadata={
            "description": "`process`: the one that was started; `group` (default): its process group; `tree`: "
            "everything that it ever started, also in other sessions."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> SignalRequest:
        return SignalRequest(number=data["signal"], scope=data["scope"])


class RemoveQuery(Strict):
    """DELETE /api/v1/processes/{ref}."""

    purge = fields.QueryFlag(
        load_default=False,
        metadata={"description": "Also delete its record and its output, for good."},
    )

    wait = fields.QueryFloat(
        low=0,
        high=MAX_KILL_WAIT_S,
        load_default=KILL_WAIT_S,
        metadata={"description": "Wait at most so many seconds until everything is gone; 0: do not wait."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RemoveRequest:
        return RemoveRequest(purge=data["purge"], wait_s=data["wait"])


class StatsQuery(Strict):
    """GET /api/v1/processes/{ref}/stats. Loads as the number of a run, or None."""

    run = fields.QueryInteger(low=1, metadata={"description": "Of this run. Without it, of the current or last one."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> int | None:
        return data.get("run")


class FollowQuery(Strict):
    """GET .../follow. Loads as an `OutputQuery` of both streams."""

    after = fields.QueryInteger(metadata={"description": "Start after the line or gap with this id."})
    tail = fields.QueryInteger(metadata={"description": "Start so many lines before the end; gaps are not counted."})
    since = fields.QueryInteger(metadata={"description": "Only lines read at or after this time."})
    until = fields.QueryInteger(metadata={"description": "Only lines read at or before this time."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return OutputQuery(
            after=data.get("after", 0),
            tail=data.get("tail"),
            since_ms=data.get("since"),
            until_ms=data.get("until"),
        )


class OutputRange(FollowQuery):
    """GET .../stdout, /stderr, /output. Loads as a `ReadOptions` of both streams."""

    limit = fields.QueryInteger(metadata={"description": "Answer with so many lines at most; gaps are not counted."})
    grep = fields.String(
        validate=check_one_line,
        metadata={
            "description": "Only lines that contain this text, literally (it is not a pattern), case "
            "mattering. A part of a line that was printed before its rest counts with the rest, except in "
            "NDJSON, where each event counts for itself."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        needle = data.pop("grep", "")
        limit = data.pop("limit", None)
        where: OutputQuery = super()._make(data)
        return ReadOptions(where=where, limit=limit, grep=needle.encode() or None)


class ResumeHeader(Strict):
    """The request header of a follower that comes back."""

    last_event_id = fields.QueryInteger(data_key="Last-Event-ID")
