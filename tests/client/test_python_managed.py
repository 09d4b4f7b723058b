"""Managed processes with the official Python client."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from tensorlake.sandbox import (
    ManagedProcessHealthStatus,
    ManagedProcessInfo,
    ManagedProcessStatus,
    ProcessHealthCheck,
    ProcessHealthCheckType,
    ProcessStatus,
    RemoteAPIError,
    RestartPolicy,
    RestartPolicyConfig,
    Sandbox,
)

from tests.support.daemon import PYTHON, Daemon
from tests.support.waiting import eventually

from .blocking import call, events

NAME = "wéb server 1?#%"
FAST = {"initial_backoff_ms": 1, "max_backoff_ms": 10}
# Says on which port it listens, and answers every request with 200.
SERVING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 500)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def until(sandbox: Sandbox, process: int | str, holds: Callable[[ManagedProcessInfo], object]) -> Any:
    """Wait until what is known of a process's supervision is so."""

    async def look() -> Any:
        seen = await call(sandbox.get_process, process)
        assert seen.managed is not None
        return seen if holds(seen.managed) else None

    return await eventually(look)


async def start_named(sandbox: Sandbox) -> Any:
    return await call(sandbox.start_process, "sh", ["-c", "echo run; exec sleep 1000"], name=NAME)


async def test_a_named_process_is_managed_with_the_defaults(sandbox: Sandbox) -> None:
    started = await start_named(sandbox)
    assert started.managed.name == NAME
    assert started.managed.id == NAME
    assert started.managed.restart == RestartPolicyConfig(policy=RestartPolicy.ON_FAILURE)
    assert started.managed.health_check is None
    assert started.managed.health_status == ManagedProcessHealthStatus.DISABLED
    assert (started.managed.restart_count, started.managed.last_exit) == (0, None)
    assert (await call(sandbox.get_process, NAME)).pid == started.pid


async def test_a_name_stands_for_a_process_over_its_runs(sandbox: Sandbox) -> None:
    started = await start_named(sandbox)
    again = await call(sandbox.restart_process, NAME)
    assert again.handle == started.handle
    assert again.pid != started.pid
    assert again.status == ProcessStatus.RUNNING

    async def has_said_it_twice() -> bool:
        return bool((await call(sandbox.get_stdout, NAME)).lines == ["run", "run"])

    await eventually(has_said_it_twice)
    await call(sandbox.kill_process, NAME)
    stopped = await until(sandbox, NAME, lambda managed: managed.status == ManagedProcessStatus.STOPPED)
    assert (stopped.status, stopped.signal) == (ProcessStatus.SIGNALED, signal.SIGTERM)
    assert await events(sandbox.follow_output, NAME) == [("run\n", "stdout")] * 2


async def test_a_name_in_use_is_refused(sandbox: Sandbox) -> None:
    await start_named(sandbox)
    with pytest.raises(RemoteAPIError) as caught:
        await call(sandbox.start_process, "true", name=NAME)
    assert (caught.value.status_code, caught.value.code) == (409, "NAME_IN_USE")


async def test_a_failing_process_is_restarted_up_to_its_limit(sandbox: Sandbox) -> None:
    restart = RestartPolicyConfig(policy=RestartPolicy.ON_FAILURE, max_restarts=2, **FAST)
    started = await call(sandbox.start_process, "sh", ["-c", "echo run; exit 3"], name="failing", restart=restart)
    assert started.managed.restart == restart
    assert await events(sandbox.follow_output, "failing") == [("run\n", "stdout")] * 3
    end = await until(sandbox, "failing", lambda managed: managed.status == ManagedProcessStatus.STOPPED)
    assert (end.managed.restart_count, end.managed.last_exit.exit_code, end.exit_code) == (2, 3, 3)
    assert end.managed.next_restart_at is None

    content = await call(sandbox.start_process, "true", name="content", restart=restart)
    end = await until(sandbox, "content", lambda managed: managed.status == ManagedProcessStatus.STOPPED)
    assert (end.pid, end.managed.restart_count, end.exit_code) == (content.pid, 0, 0)

    waiting = {"policy": "always", "initial_backoff_ms": 60_000, "max_backoff_ms": 60_000}
    await call(sandbox.start_process, "true", name="waiting", restart=waiting)
    seen = await until(sandbox, "waiting", lambda managed: managed.next_restart_at is not None)
    assert seen.managed.status == ManagedProcessStatus.BACKING_OFF
    await call(sandbox.kill_process, "waiting")
    await until(sandbox, "waiting", lambda managed: managed.status == ManagedProcessStatus.STOPPED)


async def test_an_unhealthy_process_is_restarted(sandbox: Sandbox, unused_tcp_port_factory: Callable[[], int]) -> None:
    port = unused_tcp_port_factory()
    quick = {"initial_delay_ms": 0, "interval_ms": 50, "timeout_ms": 2000, "failure_threshold": 200}
    check = ProcessHealthCheck(type=ProcessHealthCheckType.HTTP, port=port, path="/ready", **quick)
    started = await call(sandbox.start_process, PYTHON, ["-c", SERVING, str(port)], name="web", health_check=check)
    assert started.managed.health_check == check
    await until(sandbox, "web", lambda managed: managed.health_status == ManagedProcessHealthStatus.HEALTHY)
    await call(sandbox.kill_process, "web")

    nothing = ProcessHealthCheck(type=ProcessHealthCheckType.TCP, port=port, **{**quick, "failure_threshold": 2})
    restart = RestartPolicyConfig(max_restarts=1, **FAST)
    await call(sandbox.start_process, "sleep", ["1000"], name="deaf", health_check=nothing, restart=restart)
    end = await until(sandbox, "deaf", lambda managed: managed.status == ManagedProcessStatus.STOPPED)
    assert end.managed.restart_count == 1
    assert end.managed.last_error


async def test_supervision_continues_after_the_daemons_death(sandbox: Sandbox, daemon: Daemon) -> None:
    restart = RestartPolicyConfig(policy=RestartPolicy.ALWAYS, **FAST)
    await call(sandbox.start_process, "sleep", ["1000"], name="steady", restart=restart)
    address = daemon.url.removeprefix("http://")
    await call(sandbox.send_signal, "steady", signal.SIGKILL)
    before = await until(sandbox, "steady", lambda managed: managed.restart_count == 1)
    await daemon.kill()
    await daemon.start("--listen", address)
    after = await until(sandbox, "steady", lambda managed: managed.status != ManagedProcessStatus.STARTING)
    assert after.managed.restart_count == 1
    assert after.managed.last_exit == before.managed.last_exit
    await call(sandbox.send_signal, "steady", signal.SIGKILL)
    await until(sandbox, "steady", lambda managed: managed.restart_count == 2)


async def test_wrong_arguments_are_named(sandbox: Sandbox) -> None:
    async def refused(function: Callable[..., Any], *args: Any, **fields: Any) -> tuple[int, str | None, str]:
        with pytest.raises(RemoteAPIError) as caught:
            await call(function, *args, **fields)
        return caught.value.status_code, caught.value.code, caught.value.message

    plain = await call(sandbox.start_process, "sleep", ["1000"])
    assert plain.managed is None
    assert (await refused(sandbox.restart_process, plain.pid))[:2] == (400, "NOT_MANAGED")
    assert (await refused(sandbox.get_process, "nobody's name"))[:2] == (404, "NOT_FOUND")
    for field, value in (  # the client itself refuses what is not of the right type
        ("restart", {"max_restarts": -1}),
        ("restart", {"initial_backoff_ms": -1}),
        ("health_check", {"type": "tcp", "port": 65_536}),
        ("health_check", {"type": "http", "port": 80, "path": "ready"}),
        ("health_check", {"type": "tcp", "port": 80, "interval_ms": -1}),
    ):
        status, code, sentence = await refused(sandbox.start_process, "true", **{field: value})
        assert (status, code) == (400, "INVALID_REQUEST"), (field, value)
        assert field in sentence
