"""The system lacks something for a while: nobody's request is blamed for that, and what is to run is tried again."""

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from harness.proc import forker_pid
from tests.support.daemon import Daemon, shim_pid
from tests.support.health import unavailable
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts processes as another user")
NOBODY = {"user": "64322:64322", "working_dir": "/"}


@contextlib.contextmanager
def no_more_processes(daemon: Daemon) -> Iterator[None]:
    """Let every user but root, who has a process, have no more (`ulimit -u`)."""
    helper = forker_pid(shim_pid(daemon.state_dir))
    assert helper is not None
    before = resource.prlimit(helper, resource.RLIMIT_NPROC)
    resource.prlimit(helper, resource.RLIMIT_NPROC, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(helper, resource.RLIMIT_NPROC, before)


async def test_a_start_without_room_for_a_process_is_tried_again_by_its_client(daemon: Daemon) -> None:
    body = {"command": "true", **NOBODY}
    first = await daemon.run("sleep", "1000", **NOBODY)
    with no_more_processes(daemon):
        error = await unavailable(daemon, "POST", "/processes", body)
        assert os.strerror(errno.EAGAIN) in error
        assert "ulimit -u" in error
        await unavailable(daemon, "POST", "/processes/run", body)
        await daemon.call("POST", "/processes", 422, {**body, "command": "no-such-command"})
    listed = (await daemon.call("GET", "/processes", 200))["processes"]
    assert [process["id"] for process in listed] == [first["id"]]
    await daemon.run(**body)


async def test_a_managed_process_waits_for_room_without_counting(daemon: Daemon) -> None:
    """Failed starts that counted would end it after one."""
    await daemon.run("sleep", "1000", **NOBODY)
    process = await daemon.run("sleep", "1000", restart={"policy": "always", "max_restarts": 1}, **NOBODY)
    with no_more_processes(daemon):
        os.kill(process["pid"], signal.SIGKILL)

        async def has_tried_twice() -> dict[str, Any] | None:
            managed = (await daemon.get(process))["managed"]
            seen.add(managed["next_restart_at"])
            return managed if managed["last_error"] and len(seen - {None}) > 2 else None

        seen: set[int | None] = set()
        managed: dict[str, Any] = await eventually(has_tried_twice)
        assert os.strerror(errno.EAGAIN) in managed["last_error"]
        assert (managed["status"], managed["restart_count"]) == ("backing_off", 0)

    async def runs_again() -> bool:
        now = await daemon.get(process)
        return now["status"] == "running" and now["managed"]["last_error"] is None

    await eventually(runs_again)
    assert (await daemon.get(process))["managed"]["restart_count"] == 1
