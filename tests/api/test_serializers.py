"""Serializers: what is shown of a managed process that does not run."""

from dataclasses import replace

import pytest

from outlast.api.handlers.serializers import process_info
from outlast.model.exit_status import ExitStatus, Reason
from outlast.model.managed import Desired, HealthStatus, ManagedState
from outlast.model.options import HealthCheck, HealthCheckType, Options

from .stub import view

CHECKED = Options(health_check=HealthCheck(type=HealthCheckType.TCP, port=1))
ENDING = ExitStatus(reason=Reason.EXITED, exit_code=0, ended_at_ms=1)


@pytest.mark.parametrize(
    ("said", "desired", "ended", "shown"),
    [
        (HealthStatus.HEALTHY, Desired.RUNNING, False, "healthy"),
        (None, Desired.RUNNING, False, "starting"),
        (HealthStatus.HEALTHY, Desired.STOPPED, True, "disabled"),
        (HealthStatus.HEALTHY, Desired.RUNNING, True, "starting"),
        (HealthStatus.UNHEALTHY, Desired.STOPPED, True, "unhealthy"),
        (HealthStatus.UNHEALTHY, Desired.RUNNING, True, "unhealthy"),
        (None, Desired.STOPPED, True, "disabled"),
    ],
)
def test_what_does_not_run_is_not_healthy(said: HealthStatus | None, desired: Desired, ended: bool, shown: str) -> None:
    process = view().process
    state = ManagedState(desired=desired, health_run=1, health=said)
    run = replace(process.run, ending=ENDING if ended else None)
    process = replace(process, spec=replace(process.spec, options=CHECKED), run=run, managed=state)
    assert process_info(replace(view(), process=process))["managed"]["health_status"] == shown
