"""Bodies and query strings of calls that start, signal and end processes."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, post_load, validate, validates_schema
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields, line_fields, process_fields
from outlast.api.schemas.base import Lenient, Strict
from outlast.api.schemas.keep import ALWAYS, FORMS, KeepField
from outlast.api.schemas.limits import LimitsBody
from outlast.api.schemas.managed import MAX_WAIT_MS, HealthCheckBody, RestartBody
from outlast.api.schemas.terminal_fields import TerminalBody, check_modes
from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.termination import KILL_WAIT_S
from outlast.model.options import DEFAULT_STOP_GRACE_MS, Limits, Options
from outlast.model.process import OutputMode, SignalScope, StdinMode

MAX_KILL_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Request to kill a process.

    Attributes:
        purge: delete its record and output, too.
        wait_s: how long to wait for the end.
        grace_ms: time between its stop signal and SIGKILL; None: only a managed process is stopped, within its own.
    """

    purge: bool
    wait_s: float
    grace_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRequest:
    """Request to send a signal: its number, and its scope."""

    number: int
    scope: SignalScope


_ID = {"type": "integer", "minimum": 0, "maximum": process_fields.MAX_ID}
_ID_OR_NULL = {**_ID, "type": ["integer", "null"]}
_USER_FORMS = [
    {"type": "string", "minLength": 1, "examples": ["www-data", "www-data:adm", "1000:1000"]},
    {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}, "uid": {"type": "null"}, "gid": _ID_OR_NULL},
        "required": ["name"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"name": {"type": "null"}, "uid": _ID, "gid": _ID_OR_NULL},
        "required": ["uid"],
        "additionalProperties": False,
    },
    {"type": "null"},
]


_SIGNAL_FORMS = [{"type": "integer", "minimum": 1, "maximum": process_fields.MAX_SIGNAL}, {"type": "string"}]


class StartBody(Lenient):
    """POST /api/v1/processes. Loads as a `StartRequest`."""

    aliases = {"timeout_secs": "timeout"}  # as one of the official clients calls it

    example: Mapping[str, Any] = {"command": "sh", "args": ["-c", "for i in 1 2 3; do echo line $i; sleep 1; done"]}

    command = fields.String(
        required=True,
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={
            "description": "Program to start: a path, or a name that is looked up in PATH. It is not a shell line: "
            "arguments go into `args`.",
        },
    )
    args = fields.Strings(
        allow_none=True,
        max_items=process_fields.MAX_ARGS,
        metadata={"description": "Arguments of the program, without the program itself."},
    )
    env = process_fields.Environment(
        allow_none=True,
        metadata={
            "description": "Environment variables to set. Their values are never returned and never logged. The "
            "values of a managed process are stored encrypted (the key is `env.key` in the state folder), because "
            "later runs need them; the values of any other process are not stored. The process also gets PATH, HOME, "
            "USER, LOGNAME, LANG and TZ, and what the setting `inherit_env` names.",
            "additionalProperties": {"type": "string"},
            "maxProperties": process_fields.MAX_VARIABLES,
        },
    )
    working_dir = fields.String(
        allow_none=True,
        validate=validate.Regexp("/", error='must be an absolute path (one that starts with "/")'),
        metadata={
            "description": "Absolute path of the folder in which the process starts. Default: the home folder of its "
            "user.",
            "pattern": "^/",
        },
    )
    user = process_fields.User(
        allow_none=True,
        metadata={
            "description": "User that the process runs as, and perhaps its group: `user` or `user:group`, each a name "
            "or a number, or an object. Default: the daemon's own user. The default group is that of the user's "
            "account, and so are the further groups.",
            "anyOf": _USER_FORMS,
        },
    )
    stdin_mode = fields.Choice(
        StdinMode,
        allow_none=True,
        metadata={
            "description": "`pipe`: the API can write to standard input. `closed` (default): standard input is "
            "/dev/null."
        },
    )
    stdout_mode = fields.Choice(
        OutputMode,
        allow_none=True,
        metadata={"description": "`capture` (default) stores every line of standard output; `discard` drops it."},
    )
    stderr_mode = fields.Choice(
        OutputMode,
        allow_none=True,
        metadata={"description": "`capture` (default) stores every line of standard error; `discard` drops it."},
    )
    nice = fields.Integer(
        low=-20,
        high=19,
        allow_none=True,
        metadata={
            "description": "Nice value, -20 (highest priority) to 19 (lowest). Values below the daemon's own need "
            "CAP_SYS_NICE."
        },
    )
    limits = fields.Nested(
        LimitsBody,
        allow_none=True,
        metadata={
            "description": "Resource limits. A limit that is not available on this machine fails the start "
            "(SPAWN_FAILED)."
        },
    )
    tags = process_fields.Tags(
        allow_none=True,
        metadata={
            "description": "Tags to find the process by.",
            "additionalProperties": {"type": "string", "maxLength": process_fields.MAX_TAG_VALUE_CHARS},
            "maxProperties": process_fields.MAX_TAGS,
        },
    )
    name = process_fields.Name(
        allow_none=True,
        metadata={
            "description": "Name of the process, by which every call finds it. Only one live process has a name at a "
            "time. A name makes the process managed: unless `restart` says otherwise, it is restarted after every end "
            'except exit code 0. For a named job that runs once, send `"restart": {"policy": "never"}`. A name has '
            "printable characters without `/`, and is neither all digits, nor `@` and digits, nor a ULID.",
            "minLength": 1,
            "maxLength": process_fields.MAX_NAME_CHARS,
        },
    )
    restart = ma_fields.Nested(
        RestartBody,
        allow_none=True,
        metadata={"description": "Restart policy. It makes the process managed."},
    )
    health_check = ma_fields.Nested(
        HealthCheckBody,
        allow_none=True,
        metadata={
            "description": "Health check. It makes the process managed. An unhealthy process is killed, which counts "
            "as a failure."
        },
    )
    ready_log = fields.String(
        allow_none=True,
        validate=validate.And(line_fields.PATTERN, line_fields.check_expression),
        metadata={
            "description": "Regular expression (RE2 syntax). It makes the process managed: `health_status` of a run is "
            "`starting` until it prints a line that matches, and `healthy` from then on. Not with `health_check`.",
            "example": "listening on port [0-9]+",
        },
    )
    stop_signal = process_fields.SignalNumber(
        allow_none=True,
        metadata={
            "description": "Signal that asks the process to end when it is stopped in order: a managed process by "
            "DELETE or `restart`, and every process by `outlast shutdown`. A number, or a name such as "
            '"SIGINT". Default SIGTERM.',
            "anyOf": [*_SIGNAL_FORMS, {"type": "null"}],
        },
    )
    stop_grace_ms = fields.Integer(
        allow_none=True,
        high=MAX_WAIT_MS,
        metadata={
            "description": "Time between the stop signal and SIGKILL, in milliseconds, when a managed process is "
            "stopped. "
            f"Default {DEFAULT_STOP_GRACE_MS}."
        },
    )
    success_exit_codes = fields.ExitCodes(
        allow_none=True,
        metadata={
            "description": "Exit codes that count as success, besides 0: a managed process with the policy "
            "`on_failure` is not restarted after them."
        },
    )
    keep = KeepField(
        allow_none=True,
        metadata={
            "description": "What is kept of the process, where that differs from the settings of retention. "
            f'`"{ALWAYS}"`: neither the limit of all output (`keep_total_bytes`) nor those of ended processes count.',
            "anyOf": [*FORMS, {"type": "null"}],
            "example": {"bytes": 100_000_000},
        },
    )
    timeout = fields.Seconds(
        allow_none=True,
        metadata={
            "description": "Maximum duration of a run in seconds. After it, the whole process tree is killed (also "
            "while no daemon runs), and the reason of the end is `timed_out`.",
            "example": 30,
        },
    )
    tty = ma_fields.Nested(
        TerminalBody,
        allow_none=True,
        metadata={
            "description": "Start the program in a terminal, which is its standard input, output and error. What it "
            "prints is stored as standard output; what is written to its standard input is typed. Clients attach to it "
            "as to a session (`/api/v1/pty`) of the process's id. Without TERM in `env`, it is `xterm-256color`."
        },
    )
    idempotency_key = process_fields.Key(
        allow_none=True,
        metadata={
            "description": "Key that makes a start safe to repeat, in printable characters. A second start with the "
            "same key starts nothing: it returns the process of the first one as it is now, even after it has ended "
            "and after restarts of the daemon, until it is purged. The key with another `command` or `args` is an "
            "error; other fields are not compared. A failed start releases its key.",
            "minLength": 1,
            "maxLength": process_fields.MAX_KEY_CHARS,
            "example": "nightly-backup-2026-11-23",
        },
    )

    @validates_schema
    def _check_readiness(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("ready_log") is not None and data.get("health_check") is not None:
            raise ValidationError({"ready_log": ["cannot be used with health_check: both say when it is healthy"]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> StartRequest:
        given = {key: value for key, value in data.items() if value is not None}
        if "tty" in given:
            check_modes(given)
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
                stop_signal=given.get("stop_signal", signal.SIGTERM),
                stop_grace_ms=given.get("stop_grace_ms", DEFAULT_STOP_GRACE_MS),
                success_exit_codes=given.get("success_exit_codes", ()),
                restart=given.get("restart"),
                health_check=given.get("health_check"),
                ready_log=given.get("ready_log"),
                keep=given.get("keep"),
                terminal=given.get("tty"),
            ),
            idempotency_key=given.get("idempotency_key"),
        )


class PutBody(StartBody):
    """PUT .../processes/{ref}. Loads as a `StartRequest`. It may be repeated, and needs no key for that."""

    class Meta:
        """Fields of a start that are left out."""

        exclude = ("idempotency_key",)


class RunBody(StartBody):
    """POST /api/v1/processes/run. Loads as a `StartRequest` of a process that is not managed."""

    class Meta:
        """The fields that would make the process managed are left out."""

        exclude = ("name", "restart", "health_check", "ready_log", "stop_grace_ms", "success_exit_codes")


class StartQuery(Strict):
    """POST /api/v1/processes."""

    strict = fields.QueryFlag(
        load_default=False,
        metadata={
            "description": "Refuse every unknown field. By default, those whose name is near no known one are passed "
            "over, and `warnings` in the answer names them: newer clients may send them."
        },
    )


class RunQuery(StartQuery):
    """POST /api/v1/processes/run. Loads as whether to detach."""

    detach = fields.QueryFlag(
        load_default=False,
        metadata={"description": "Keep the command running when the client disconnects."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> bool:
        detach: bool = data["detach"]
        return detach


class SignalBody(Strict):
    """POST .../signal. Loads as a `SignalRequest`."""

    example = {"signal": "SIGTERM"}

    signal = process_fields.SignalNumber(
        required=True,
        metadata={
            "description": 'Number of the signal, or its name, such as "SIGTERM", "term" or "RTMIN+1".',
            "anyOf": _SIGNAL_FORMS,
        },
    )

    scope = fields.Choice(
        SignalScope,
        load_default=None,
        allow_none=False,
        metadata={
            "description": "Receivers of the signal. `process`: the process itself. `group`: its process group. "
            "`tree`: the process and all its descendants, also those in other sessions. Default: `tree` for SIGKILL, "
            "`group` for all others."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> SignalRequest:
        usual = SignalScope.TREE if data["signal"] == signal.SIGKILL else SignalScope.GROUP
        return SignalRequest(number=data["signal"], scope=data["scope"] or usual)


class DeleteQuery(Strict):
    """DELETE /api/v1/processes/{ref}. Loads as a `DeleteRequest`."""

    purge = fields.QueryFlag(
        load_default=False,
        metadata={"description": "Also delete the record and the output of the process. This cannot be undone."},
    )

    wait = fields.QueryFloat(
        low=0,
        high=MAX_KILL_WAIT_S,
        metadata={
            "description": "Maximum time in seconds to wait until the whole process tree is gone. 0: do not wait. "
            f"Default {KILL_WAIT_S:g}, in addition to `grace_ms`."
        },
    )

    grace_ms = fields.QueryInteger(
        high=MAX_WAIT_MS,
        metadata={
            "description": "First send the process group its `stop_signal`, and SIGKILL to the tree when the process "
            "has ended, or after this time in milliseconds, also if the daemon dies or the client disconnects "
            "meanwhile. For a managed process, instead of its `stop_grace_ms`. Without it, a process that is not "
            "managed gets SIGKILL at once."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> DeleteRequest:
        grace_ms: int | None = data.get("grace_ms")
        wait_s = data.get("wait", KILL_WAIT_S + (grace_ms or 0) / 1000)
        return DeleteRequest(purge=data["purge"], wait_s=wait_s, grace_ms=grace_ms)
