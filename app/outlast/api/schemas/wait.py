"""The query string of a wait."""

from typing import Any

from marshmallow import ValidationError, post_load, validates_schema

from outlast.api.schemas import fields, line_fields
from outlast.api.schemas.base import Strict
from outlast.core.query.matcher import make_matcher
from outlast.core.query.wait_conditions import WaitCondition, WaitQuery

_DEFAULT_TIMEOUT_MS = 30_000

_REQUIRED = {WaitCondition.OUTPUT: "pattern", WaitCondition.PORT: "port", WaitCondition.IDLE: "idle_ms"}
"""The parameter that a condition needs."""

_ALLOWED = {
    WaitCondition.EXIT: set[str](),
    WaitCondition.OUTPUT: {"pattern", "regex", "stream", "after"},
    WaitCondition.PORT: {"port"},
    WaitCondition.IDLE: {"idle_ms", "stream"},
    WaitCondition.HEALTHY: set[str](),
}
"""The parameters that a condition accepts."""


class WaitParameters(Strict):
    """GET .../wait. Loads as a `WaitQuery`, and the maximum time to wait in seconds."""

    until = fields.Choice(
        WaitCondition,
        required=True,
        metadata={
            "description": "The condition. `exit`: the process has ended. `output`: it has printed a line that matches "
            "`pattern`. `port`: something accepts connections on `port`. `idle`: it has printed nothing for `idle_ms`. "
            "`healthy`: its run, or a later one, is healthy by its `health_check` or `ready_log`."
        },
    )
    pattern = fields.String(
        validate=line_fields.PATTERN,
        metadata={
            "description": "For `output`: text that a line must contain, case-sensitive. Lines that are stored already "
            "count."
        },
    )
    regex = fields.QueryFlag(load_default=False, metadata={"description": line_fields.regex_meaning("pattern")})
    stream = line_fields.StreamName(metadata={"description": "For `output` and `idle`: only this stream."})
    after = fields.QueryInteger(metadata={"description": "For `output`: only lines after the one with this id."})
    port = fields.QueryInteger(
        low=1,
        high=fields.MAX_PORT,
        metadata={"description": "For `port`: a TCP port on 127.0.0.1 or ::1."},
    )
    idle_ms = fields.QueryInteger(
        low=1,
        metadata={
            "description": "For `idle`: how long, in milliseconds, the process must print nothing. The time before the "
            "call counts."
        },
    )
    timeout = fields.QuerySeconds(
        load_default=_DEFAULT_TIMEOUT_MS,
        metadata={"description": "Maximum time to wait, in seconds.", "default": _DEFAULT_TIMEOUT_MS // 1000},
    )

    @validates_schema
    def _check_parameters(self, data: dict[str, Any], **_: Any) -> None:
        until = data["until"]
        required = _REQUIRED.get(until)
        if required is not None and required not in data:
            raise ValidationError({required: [f"is required with until={until}"]})
        given = {name for name in data if name not in ("until", "timeout") and data[name] is not False}
        for name in sorted(given - _ALLOWED[until]):
            raise ValidationError({name: [f"cannot be used with until={until}"]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[WaitQuery, float]:
        query = WaitQuery(
            until=data["until"],
            matcher=make_matcher(data["pattern"], "pattern", is_regex=data["regex"]) if "pattern" in data else None,
            stream=data.get("stream"),
            after=data.get("after", 0),
            port=data.get("port", 0),
            idle_ms=data.get("idle_ms", 0),
        )
        return query, data["timeout"] / 1000
