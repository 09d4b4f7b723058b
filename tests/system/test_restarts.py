"""Restarts as the start asks for them: after which exit codes, and after what time."""

from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import eventually


async def has_status(daemon: Daemon, process: dict[str, Any], status: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        seen = await daemon.get(process)
        return seen if seen["managed"]["status"] == status else None

    return await eventually(look, status)


async def test_an_exit_code_that_counts_as_success_leads_to_no_restart(daemon: Daemon) -> None:
    process = await daemon.sh("exit 3", name="job", success_exit_codes=[143, 3])
    assert process["success_exit_codes"] == [3, 143]
    seen = await has_status(daemon, process, "stopped")
    assert (seen["run"], seen["exit_code"]) == (1, 3)


async def test_a_fixed_delay_is_waited_before_each_restart_also_by_the_next_daemon(daemon: Daemon) -> None:
    process = await daemon.sh("exit 1", restart={"delay_ms": 3_600_000})
    seen = await has_status(daemon, process, "backing_off")
    assert seen["managed"]["restart"]["delay_ms"] == 3_600_000
    due_at = seen["managed"]["next_restart_at"]
    assert 3_590_000 < due_at - seen["ended_at"] < 3_610_000
    await daemon.kill()
    await daemon.start()
    assert (await daemon.get(process))["managed"]["next_restart_at"] == due_at
