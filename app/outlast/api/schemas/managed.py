"""What calls about managed processes accept: the parts of a start that make it one, and which runs to list."""

from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, post_load, validate

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.model.options import HealthCheck, HealthCheckType, Restart, RestartPolicy

MAX_WAIT_MS = 24 * 60 * 60 * 1000
_RESTART = Restart()
_CHECK = HealthCheck(type=HealthCheckType.HTTP, port=fields.MAX_PORT)
DEFAULT_RUNS_LIMIT = 1000
MAX_RUNS_LIMIT = 10_000


class RestartBody(Strict):
    """`restart` of a start. Loads as a `Restart`."""

    policy = fields.Choice(
        RestartPolicy,
        load_default=_RESTART.policy,
        metadata={"description": "After which ends it is started again."},
    )
    max_restarts = fields.Integer(
        allow_none=True,
        load_default=None,
        metadata={"description": "So many in a row at most, without a stable minute in between."},
    )
    initial_backoff_ms = fields.Integer(
        high=MAX_WAIT_MS,
        load_default=_RESTART.initial_backoff_ms,
        metadata={"description": "Bound of the first wait; it doubles each time."},
    )
    max_backoff_ms = fields.Integer(
        high=MAX_WAIT_MS,
        load_default=_RESTART.max_backoff_ms,
        metadata={"description": "Bound of every wait. The wait itself is drawn at random below its bound."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Restart:
        if data["initial_backoff_ms"] > data["max_backoff_ms"]:
            raise ValidationError({"initial_backoff_ms": ["must not be more than max_backoff_ms"]})
        return Restart(**data)


class HealthCheckBody(Strict):
    """`health_check` of a start. Loads as a `HealthCheck`."""

    type = fields.Choice(HealthCheckType, required=True)
    port = fields.Integer(required=True, low=1, high=fields.MAX_PORT, metadata={"description": "On 127.0.0.1."})
    path = fields.String(
        allow_none=True,
        load_default=None,
        validate=validate.Regexp(r"/[!-~]*\Z", error='must start with "/" and hold visible ASCII characters only'),
        metadata={"description": "What is asked for (http); `/` unless given.", "pattern": "^/[!-~]*$"},
    )
    initial_delay_ms = fields.Integer(high=MAX_WAIT_MS, load_default=_CHECK.initial_delay_ms)
    interval_ms = fields.Integer(low=10, high=MAX_WAIT_MS, load_default=_CHECK.interval_ms)
    timeout_ms = fields.Integer(low=1, high=MAX_WAIT_MS, load_default=_CHECK.timeout_ms)
    failure_threshold = fields.Integer(low=1, high=MAX_WAIT_MS, load_default=_CHECK.failure_threshold)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> HealthCheck:
        if data["path"] is not None and data["type"] is HealthCheckType.TCP:
            raise ValidationError({"path": ["is for http only, leave it out"]})
        return HealthCheck(**{**data, "path": data["path"] or _CHECK.path})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsPage:
    """Which runs to list: those before one number, `limit` at most."""

    before: int | None
    limit: int


class RunsQuery(Strict):
    """GET /api/v1/processes/{ref}/runs. Loads as a `RunsPage`."""

    limit = fields.QueryInteger(
        low=1,
        high=MAX_RUNS_LIMIT,
        load_default=DEFAULT_RUNS_LIMIT,
        metadata={"description": "How many to answer with at most."},
    )
    cursor = fields.QueryInteger(metadata={"description": "`next` of the page before."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RunsPage:
        return RunsPage(before=data.get("cursor"), limit=data["limit"])
