"""The fields of a start that make a process managed: `restart` and `health_check`."""

from typing import Any

from marshmallow import ValidationError, post_load, validate

from outlast.api.schemas import fields, process_fields
from outlast.api.schemas.base import Lenient
from outlast.model.options import HealthCheck, HealthCheckType, Restart, RestartPolicy

MAX_WAIT_MS = 24 * 60 * 60 * 1000
_RESTART = Restart()
_CHECK = HealthCheck(type=HealthCheckType.HTTP)
_EXEC_TIMEOUT_MS = 5000
"""Default timeout of a command: a start alone may take a while on a busy machine."""
_OF_TYPE = {
    HealthCheckType.HTTP: {"port", "path"},
    HealthCheckType.TCP: {"port"},
    HealthCheckType.EXEC: {"command", "args"},
}
"""The fields that belong to a type.."""
_REQUIRED = {HealthCheckType.HTTP: "port", HealthCheckType.TCP: "port", HealthCheckType.EXEC: "command"}


class RestartBody(Lenient):
    """`restart` of a start. Loads as a `Restart`."""

    policy = fields.Choice(
        RestartPolicy,
        load_default=_RESTART.policy,
        metadata={
            "description": "When the process is restarted. `on_failure` (default): after every end except exit code 0. "
            "`always`: after every end. `never`: only on request."
        },
    )
    max_restarts = fields.Integer(
        allow_none=True,
        load_default=None,
        metadata={
            "description": "Maximum number of restarts in a row. A run of at least one minute resets the count. "
            "Null (default): no maximum."
        },
    )
    initial_backoff_ms = fields.Integer(
        high=MAX_WAIT_MS,
        metadata={
            "description": "Upper bound of the first delay, in milliseconds. The bound doubles with each restart.",
            "default": _RESTART.initial_backoff_ms,
        },
    )
    max_backoff_ms = fields.Integer(
        high=MAX_WAIT_MS,
        metadata={
            "description": "Upper bound of every delay, in milliseconds. Each delay is a random time below its bound.",
            "default": _RESTART.max_backoff_ms,
        },
    )
    delay_ms = fields.Integer(
        high=MAX_WAIT_MS,
        allow_none=True,
        load_default=None,
        metadata={
            "description": "The delay before every restart, in milliseconds, instead of a random one. It counts from "
            "the end of the run."
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Restart:
        bounds = {"initial_backoff_ms", "max_backoff_ms"} & data.keys()
        if data["delay_ms"] is not None and bounds:
            raise ValidationError({"delay_ms": [f"cannot be used with {min(bounds)}: it is the delay itself"]})
        restart = Restart(**data)
        if restart.initial_backoff_ms > restart.max_backoff_ms:
            raise ValidationError({"initial_backoff_ms": ["must not be more than max_backoff_ms"]})
        return restart


class HealthCheckBody(Lenient):
    """`health_check` of a start. Loads as a `HealthCheck`."""

    type = fields.Choice(
        HealthCheckType,
        required=True,
        metadata={
            "description": "`http`: a GET request must be answered with status 2xx or 3xx. `tcp`: the port must accept "
            "a connection. `exec`: a command must exit with 0; it runs as the same user, in the same folder and "
            "environment as the process, beside it."
        },
    )
    port = fields.Integer(
        low=1,
        high=fields.MAX_PORT,
        allow_none=True,
        metadata={"description": "TCP port of this machine, on 127.0.0.1 or ::1. Required for `http` and `tcp`."},
    )
    path = fields.String(
        allow_none=True,
        load_default=None,
        validate=validate.Regexp(r"/[!-~]*\Z", error='must start with "/" and contain visible ASCII characters only'),
        metadata={
            "description": f"Path of the GET request (`http` only). Default `{_CHECK.path}`.",
            "pattern": "^/[!-~]*$",
        },
    )
    command = fields.String(
        allow_none=True,
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={"description": "Program to run: a path, or a name that is looked up in PATH. Required for `exec`."},
    )
    args = fields.Strings(
        allow_none=True,
        max_items=process_fields.MAX_ARGS,
        metadata={"description": "Arguments of the program (`exec` only)."},
    )
    initial_delay_ms = fields.Integer(
        high=MAX_WAIT_MS,
        load_default=_CHECK.initial_delay_ms,
        metadata={"description": "Time from the start of a run to its first check, in milliseconds."},
    )
    interval_ms = fields.Integer(
        low=10,
        high=MAX_WAIT_MS,
        load_default=_CHECK.interval_ms,
        metadata={"description": "Time between two checks, in milliseconds."},
    )
    timeout_ms = fields.Integer(
        low=1,
        high=MAX_WAIT_MS,
        metadata={
            "description": "Time after which a check has failed, in milliseconds. A command is then killed with all "
            f"that it has started. Default {_CHECK.timeout_ms}, for `exec` {_EXEC_TIMEOUT_MS}."
        },
    )
    failure_threshold = fields.Integer(
        low=1,
        high=MAX_WAIT_MS,
        load_default=_CHECK.failure_threshold,
        metadata={"description": "Consecutive failed checks after which the process is unhealthy."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> HealthCheck:
        kind = data["type"]
        given = {name: value for name, value in data.items() if value is not None}
        for name in sorted(set().union(*_OF_TYPE.values()) & given.keys() - _OF_TYPE[kind]):
            kinds = " or ".join(other for other in HealthCheckType if name in _OF_TYPE[other])
            raise ValidationError({name: [f"can be used with type {kinds} only"]})
        if _REQUIRED[kind] not in given:
            raise ValidationError({_REQUIRED[kind]: [f"is required with type {kind}"]})
        if kind is HealthCheckType.EXEC:
            given = {"timeout_ms": _EXEC_TIMEOUT_MS, **given, "args": tuple(given.get("args", ()))}
        return HealthCheck(**given)
