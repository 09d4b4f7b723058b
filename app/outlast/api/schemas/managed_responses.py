"""Schemas of what answers say of a managed process."""

from marshmallow import Schema, fields

from outlast.api.schemas.answer_fields import flag, integer, string
from outlast.api.schemas.fields import Choice
from outlast.model.managed import HealthStatus, ManagedStatus
from outlast.model.options import HealthCheckType, RestartPolicy


class RestartInfo(Schema):
    """Restart policy of a managed process."""

    policy = Choice(RestartPolicy, required=True, metadata={"description": "When the process is restarted."})
    max_restarts = integer("Maximum number of restarts in a row; null: no maximum.", allow_none=True)
    initial_backoff_ms = integer("Upper bound of the first delay, in milliseconds.")
    max_backoff_ms = integer("Upper bound of every delay, in milliseconds.")
    delay_ms = integer("Delay before every restart, in milliseconds; null: it is random.", allow_none=True)


class HealthCheckInfo(Schema):
    """Health check of a managed process."""

    type = Choice(HealthCheckType, required=True, metadata={"description": "Kind of the check."})
    port = integer("TCP port on 127.0.0.1; null for `exec`.", allow_none=True)
    path = string("Path of the GET request; null unless the type is `http`.", allow_none=True)
    command = string("Program that is run; null unless the type is `exec`.", allow_none=True)
    args = fields.List(
        fields.String(),
        required=True,
        allow_none=True,
        metadata={"description": "Arguments of the program; null unless the type is `exec`."},
    )
    initial_delay_ms = integer("Time from the start of a run to its first check, in milliseconds.")
    interval_ms = integer("Time between two checks, in milliseconds.")
    timeout_ms = integer("Time after which a check has failed, in milliseconds.")
    failure_threshold = integer("Consecutive failed checks after which the process is unhealthy.")


class ExitInfo(Schema):
    """Exit status of a run."""

    exit_code = integer("Exit code; null unless the process exited by itself.", allow_none=True)
    signal = integer("Number of the signal that ended the process; null if none did.", allow_none=True)
    oom_killed = flag("True if the kernel killed the process because memory ran out.")
    ended_at = integer("Time of the end.")


class ManagedInfo(Schema):
    """State of a managed process."""

    id = string("Name of the process, or its permanent id if it has no name.")
    name = string("Name of the process; null if it has none.", allow_none=True)
    status = Choice(
        ManagedStatus,
        required=True,
        metadata={
            "description": "`starting`, `running`, `backing_off` (it has ended and waits for its restart), `stopped` "
            "(it stays stopped until it is restarted on request)."
        },
    )
    restart_count = integer("Number of restarts, by policy or on request.")
    restart = fields.Nested(RestartInfo, required=True, metadata={"description": "Restart policy."})
    health_check = fields.Nested(
        HealthCheckInfo,
        required=True,
        allow_none=True,
        metadata={"description": "Health check; null if there is none."},
    )
    ready_log = string("Expression that a line of a ready run matches; null if there is none.", allow_none=True)
    health_status = Choice(
        HealthStatus,
        required=True,
        metadata={
            "description": "Health of the current run. `disabled`: there is no check and no `ready_log`, or the "
            "process is stopped. `unhealthy` stays after the kill that it causes."
        },
    )
    consecutive_health_failures = integer("Consecutive failed health checks of the current run.")
    last_exit = fields.Nested(
        ExitInfo, required=True, allow_none=True, metadata={"description": "Exit status of the last run that ended."}
    )
    last_error = string("Why the process could not be started, or is unhealthy; else null.", allow_none=True)
    next_restart_at = integer("Time of the next restart; null if none is scheduled.", allow_none=True)
