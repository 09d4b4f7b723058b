"""The user's document, run with the official Python client as it comes from its maker.

The client's follow calls gather events until `eof`, and its core has no call that gives them one by one. That they
arrive while the process runs is seen on its own connection (see wiretap.py). Its calls block: each has a thread.
"""

import asyncio
import os
import pwd
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from tensorlake.sandbox import (
    AsyncSandbox,
    OutputMode,
    ProcessStatus,
    RemoteAPIError,
    Sandbox,
    SandboxConnectionError,
    StdinMode,
)
from tensorlake.sandbox.models import ProcessHealthCheck, RestartPolicyConfig

from tests.support.daemon import PYTHON, Daemon
from tests.support.gaps import leave
from tests.support.waiting import eventually

from .blocking import call, ended, events
from .wiretap import wiretap

# Says its lines one by one, each when it is told to.
ASKED = """
import sys
for number, _ in enumerate(sys.stdin, 1):
    print("Processing item", number, flush=True)
"""
BOTH_STREAMS = """
import sys
for number in range(3):
    print("out", number, flush=True)
    print("err", number, file=sys.stderr, flush=True)
"""
# Announces that it is ready to be signalled, and says which signal came.
TRAPPING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
print("ready", flush=True)
print(signal.sigwait({signal.SIGUSR1, signal.SIGTERM}).name, flush=True)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
signal.pause()
"""
KEEP_ALIVE_DEADLINE_S = 40.0


async def test_a_process_is_started(sandbox: Sandbox) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    started = await call(sandbox.start_process, "sleep", ["1000"])
    assert started.status == ProcessStatus.RUNNING
    assert started.command == "sleep"
    assert started.args == ["1000"]
    assert not started.stdin_writable
    assert before < started.started_at < datetime.now(UTC) + timedelta(seconds=1)


async def test_a_process_is_listed(sandbox: Sandbox) -> None:
    started = await call(sandbox.start_process, "sleep", ["1000"])
    listed = await call(lambda: list(sandbox.list_processes()))
    assert [(process.pid, process.status) for process in listed] == [(started.pid, ProcessStatus.RUNNING)]


async def test_a_process_is_found_by_its_pid(sandbox: Sandbox) -> None:
    started = await call(sandbox.start_process, "sleep", ["1000"])
    got = await call(sandbox.get_process, started.pid)
    assert (got.pid, got.command, got.args, got.ended_at) == (started.pid, "sleep", ["1000"], None)


async def test_a_process_gets_its_environment(sandbox: Sandbox) -> None:
    script = 'echo "$GREETING"'
    process = await call(sandbox.start_process, "sh", ["-c", script], env={"GREETING": "hello"})
    assert await events(sandbox.follow_output, process.pid) == [("hello\n", "stdout")]


async def test_a_process_runs_in_its_working_dir(sandbox: Sandbox, daemon: Daemon) -> None:
    folder = str(daemon.state_dir)
    process = await call(sandbox.start_process, "sh", ["-c", 'echo "$PWD"'], working_dir=folder)
    assert await events(sandbox.follow_output, process.pid) == [(f"{folder}\n", "stdout")]


async def test_a_follower_gets_every_line_of_its_streams(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-c", BOTH_STREAMS])
    out = [(f"out {number}\n", "stdout") for number in range(3)]
    err = [(f"err {number}\n", "stderr") for number in range(3)]
    assert sorted(await events(sandbox.follow_output, process.pid)) == sorted(out + err)
    assert await events(sandbox.follow_stdout, process.pid) == out
    assert await events(sandbox.follow_stderr, process.pid) == err


async def test_lines_arrive_while_the_process_runs(daemon: Daemon) -> None:
    async with wiretap(daemon.url) as tap:
        sandbox = Sandbox("local", proxy_url=tap.url, api_key=daemon.token)
        process = await call(sandbox.start_process, PYTHON, ["-c", ASKED], stdin_mode=StdinMode.PIPE)
        following = asyncio.create_task(call(lambda: list(sandbox.follow_output(process.pid))))
        arrived = []
        for number in range(1, 4):
            await call(sandbox.write_stdin, process.pid, b"go on\n")
            await eventually(partial(tap.has_sent, b"Processing item %d" % number))
            arrived.append(datetime.now(UTC))
            assert (await call(sandbox.get_process, process.pid)).status == ProcessStatus.RUNNING
            assert not following.done()
        await call(sandbox.close_stdin, process.pid)
        gathered = await following
        sandbox.close()
    assert [event.line for event in gathered] == [f"Processing item {number}\n" for number in range(1, 4)]
    # Each was read before it arrived, and after the one before it had.
    times = [event.timestamp for event in gathered]
    rounding = timedelta(milliseconds=2)
    assert all(time <= seen + rounding for time, seen in zip(times, arrived, strict=True))
    assert all(seen <= time + rounding for seen, time in zip(arrived, times[1:], strict=False))


@pytest.mark.long
async def test_keep_alive_comments_do_not_disturb(daemon: Daemon) -> None:
    """Both faces of the client hear nothing else for longer than the keep-alive interval."""
    async with wiretap(daemon.url) as tap, wiretap(daemon.url) as other_tap:
        sandbox = Sandbox("local", proxy_url=tap.url, api_key=daemon.token)
        process = await call(sandbox.start_process, PYTHON, ["-c", ASKED], stdin_mode=StdinMode.PIPE)
        async with AsyncSandbox("local", proxy_url=other_tap.url, api_key=daemon.token) as other:
            blocking = asyncio.create_task(call(lambda: list(sandbox.follow_output(process.pid))))
            awaited = asyncio.create_task(_follow(other, process.pid))
            for each in (tap, other_tap):
                await eventually(partial(each.has_sent, b": keep-alive\n\n"), deadline_s=KEEP_ALIVE_DEADLINE_S)
            await call(sandbox.write_stdin, process.pid, b"go on\n")
            await call(sandbox.close_stdin, process.pid)
            assert [event.line for event in await blocking] == ["Processing item 1\n"]
            assert [event.line for event in await awaited] == ["Processing item 1\n"]
        sandbox.close()


async def test_stored_output_is_read(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-c", BOTH_STREAMS])
    await events(sandbox.follow_output, process.pid)
    out, err = [f"out {number}" for number in range(3)], [f"err {number}" for number in range(3)]
    stdout = await call(sandbox.get_stdout, process.pid)
    assert (stdout.pid, stdout.lines, stdout.line_count) == (process.pid, out, 3)
    assert (await call(sandbox.get_stderr, process.pid)).lines == err
    both = await call(sandbox.get_output, process.pid)
    assert (sorted(both.lines), both.line_count) == (sorted(out + err), 6)


async def test_discarded_output_is_not_kept(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-c", BOTH_STREAMS], stdout_mode=OutputMode.DISCARD)
    assert await events(sandbox.follow_output, process.pid) == [(f"err {number}\n", "stderr") for number in range(3)]


async def test_any_bytes_reach_the_client(sandbox: Sandbox) -> None:
    nasty = b'a\rb\t\x00\xff\xe2\x80\xa8 \xf0\x9f\x90\x99 "quoted" \\n\nno newline at the end'
    program = f"import sys; sys.stdout.buffer.write({nasty!r})"
    process = await call(sandbox.start_process, PYTHON, ["-c", program])
    lines = await events(sandbox.follow_stdout, process.pid)
    assert "".join(line for line, _ in lines) == nasty.decode("utf-8", "replace")


async def test_a_gap_does_not_disturb(daemon: Daemon) -> None:
    """The client knows no such event: it gives the lines before and behind."""
    process = await daemon.sh("echo before")
    await daemon.ended(process)
    await leave(daemon, process, lambda output: [output.gap(1000), output.chunk(b"behind\n")])
    sandbox = Sandbox("local", proxy_url=daemon.url, api_key=daemon.token)
    assert await events(sandbox.follow_output, process["pid"]) == [("before\n", "stdout"), ("behind\n", "stdout")]
    assert (await call(sandbox.get_output, process["pid"])).lines == ["before", "behind"]
    sandbox.close()


async def test_a_signal_reaches_the_process(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-c", TRAPPING])

    async def said(*lines: str) -> None:
        async def look() -> bool:
            return bool(list(lines) == (await call(sandbox.get_stdout, process.pid)).lines)

        await eventually(look, str(lines))

    await said("ready")
    assert (await call(sandbox.send_signal, process.pid, signal.SIGUSR1)).success
    await said("ready", "SIGUSR1")
    await call(sandbox.send_signal, process.pid, 15)
    end = await ended(sandbox, process.pid)
    assert (end.status, end.signal, end.exit_code) == (ProcessStatus.SIGNALED, signal.SIGTERM, None)


async def test_a_process_is_killed(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, "sleep", ["1000"])
    await call(sandbox.kill_process, process.pid)
    end = await ended(sandbox, process.pid)
    assert (end.status, end.signal) == (ProcessStatus.SIGNALED, signal.SIGKILL)
    assert end.ended_at >= end.started_at
    await call(sandbox.kill_process, process.pid)  # a second time is not an error


async def test_a_process_runs_as_its_user(sandbox: Sandbox) -> None:
    name, gid = pwd.getpwuid(os.geteuid()).pw_name, os.getegid()
    for user in (name, f"{name}:{gid}", {"name": name, "gid": gid}, {"uid": os.geteuid(), "gid": gid}):
        process = await call(sandbox.start_process, "id", ["-u"], user=user)
        assert await events(sandbox.follow_stdout, process.pid) == [(f"{os.geteuid()}\n", "stdout")]
    with pytest.raises(RemoteAPIError) as unknown:
        await call(sandbox.start_process, "true", user="no-such-user")
    assert unknown.value.status_code == 422


@pytest.mark.skipif(os.geteuid() != 0, reason="needs processes of two users")
async def test_a_process_of_another_user_logs_to_dev_stdout(sandbox: Sandbox) -> None:
    script = "echo x > /dev/stdout; echo y > /dev/stderr"
    user = {"name": "nobody", "gid": 65534}
    process = await call(sandbox.start_process, "sh", ["-c", script], user=user, working_dir="/")
    assert sorted(await events(sandbox.follow_output, process.pid)) == [("x\n", "stdout"), ("y\n", "stderr")]


async def test_the_exit_code_is_reported(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, "sh", ["-c", "exit 7"])
    end = await ended(sandbox, process.pid)
    assert (end.status, end.exit_code, end.signal) == (ProcessStatus.EXITED, 7, None)


async def test_input_reaches_the_process(sandbox: Sandbox) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-i", "-q"], stdin_mode=StdinMode.PIPE)
    assert process.stdin_writable
    await call(sandbox.write_stdin, process.pid, b"print('hello')\n")

    async def answered() -> bool:
        return "hello" in (await call(sandbox.get_stdout, process.pid)).lines

    await eventually(answered)
    await call(sandbox.close_stdin, process.pid)
    assert (await ended(sandbox, process.pid)).exit_code == 0


async def test_the_daemon_is_healthy(sandbox: Sandbox) -> None:
    assert (await call(sandbox.health)).healthy


async def test_info_counts_processes(sandbox: Sandbox) -> None:
    await call(sandbox.start_process, "sleep", ["1000"])
    info = await call(sandbox.daemon_info)
    assert (info.running_processes, info.total_processes) == (1, 1)
    assert info.version
    assert info.uptime_secs >= 0


async def test_each_error_has_its_status(sandbox: Sandbox, daemon: Daemon) -> None:
    async def refused(function: Callable[..., Any], *args: Any, **fields: Any) -> tuple[int, str | None, str]:
        with pytest.raises(RemoteAPIError) as caught:
            await call(function, *args, **fields)
        return caught.value.status_code, caught.value.code, caught.value.message

    nobody = 2**22 + 1  # beyond the highest pid that Linux gives
    for function in (sandbox.get_process, sandbox.get_output, sandbox.follow_output, sandbox.kill_process):
        assert (await refused(function, nobody))[:2] == (404, "NOT_FOUND")
    assert (await refused(sandbox.send_signal, nobody, signal.SIGTERM))[:2] == (404, "NOT_FOUND")
    status, code, sentence = await refused(sandbox.start_process, "no-such-command")
    assert (status, code) == (422, "SPAWN_FAILED")
    assert "no-such-command" in sentence
    assert (await refused(sandbox.start_process, "true", working_dir="/no/such/folder"))[:2] == (422, "SPAWN_FAILED")
    assert await call(lambda: list(sandbox.list_processes())) == []

    process = await call(sandbox.start_process, "true")
    await ended(sandbox, process.pid)
    assert (await refused(sandbox.send_signal, process.pid, signal.SIGTERM))[:2] == (400, "NOT_RUNNING")
    closed = await call(sandbox.start_process, "sleep", ["1000"])
    assert (await refused(sandbox.write_stdin, closed.pid, b"hello\n"))[:2] == (400, "STDIN_NOT_WRITABLE")

    stranger = Sandbox("local", proxy_url=daemon.url, api_key="a guess")
    assert (await refused(stranger.list_processes))[:2] == (401, "UNAUTHORIZED")
    stranger.close()


async def test_the_same_client_continues_after_a_restart(sandbox: Sandbox, daemon: Daemon) -> None:
    process = await call(sandbox.start_process, PYTHON, ["-c", ASKED], stdin_mode=StdinMode.PIPE)
    await call(sandbox.write_stdin, process.pid, b"go on\n")
    address = daemon.url.removeprefix("http://")
    await daemon.kill()
    with pytest.raises(SandboxConnectionError):
        await call(sandbox.get_process, process.pid)
    await daemon.start("--listen", address)
    again = await call(sandbox.get_process, process.pid)
    assert (again.status, again.stdin_writable) == (ProcessStatus.RUNNING, True)
    await call(sandbox.write_stdin, process.pid, b"go on\n")
    await call(sandbox.close_stdin, process.pid)
    lines = [line for line, _ in await events(sandbox.follow_output, process.pid)]
    assert lines == ["Processing item 1\n", "Processing item 2\n"]
    assert (await ended(sandbox, process.pid)).exit_code == 0


async def test_the_asynchronous_client_reaches_the_daemon(daemon: Daemon) -> None:
    async with AsyncSandbox("local", proxy_url=daemon.url, api_key=daemon.token) as sandbox:
        process = await sandbox.start_process(PYTHON, ["-c", ASKED], stdin_mode=StdinMode.PIPE)
        following = asyncio.create_task(_follow(sandbox, process.pid))
        await sandbox.write_stdin(process.pid, b"go on\n")
        assert [seen.pid for seen in await sandbox.list_processes()] == [process.pid]
        await sandbox.close_stdin(process.pid)
        assert [event.line for event in await following] == ["Processing item 1\n"]
        assert (await sandbox.get_output(process.pid)).lines == ["Processing item 1"]
        other = await sandbox.start_process("sleep", ["1000"])
        assert (await sandbox.send_signal(other.pid, signal.SIGTERM)).success
        await sandbox.kill_process(other.pid)
        assert (await sandbox.health()).healthy


async def _follow(sandbox: AsyncSandbox, pid: int) -> list[Any]:
    return list(await sandbox.follow_output(pid))


NAME = "web é"
RESTART = RestartPolicyConfig(policy="always", max_restarts=3, initial_backoff_ms=1, max_backoff_ms=2)


async def start_managed(sandbox: Sandbox) -> Any:
    return await call(
        sandbox.start_process,
        "sh",
        args=["-c", 'echo "$A"; exec sleep 600'],
        env={"A": "value"},
        name=NAME,
        restart=RESTART,
        health_check=ProcessHealthCheck(type="http", port=1, path="/health", failure_threshold=7),
    )


async def test_a_managed_process_is_described_in_the_clients_own_models(sandbox: Sandbox) -> None:
    process = await start_managed(sandbox)
    assert process.managed.restart == RESTART
    assert process.managed.health_check.failure_threshold == 7
    assert (process.managed.id, process.managed.health_status.value) == (NAME, "starting")


async def test_a_name_in_use_is_a_conflict(sandbox: Sandbox) -> None:
    await start_managed(sandbox)
    with pytest.raises(RemoteAPIError) as raised:
        await call(sandbox.start_process, "true", name=NAME)
    assert raised.value.status_code == 409


async def test_a_managed_process_is_restarted_by_name(sandbox: Sandbox) -> None:
    process = await start_managed(sandbox)
    again = await call(sandbox.restart_process, NAME)
    assert (again.pid != process.pid, again.managed.restart_count, again.managed.status.value) == (True, 1, "running")
    assert again.managed.last_exit.signal == signal.SIGTERM


async def test_a_managed_process_that_is_killed_is_started_again(sandbox: Sandbox) -> None:
    await start_managed(sandbox)
    await call(sandbox.restart_process, NAME)
    await call(sandbox.send_signal, NAME, signal.SIGKILL)

    async def third() -> Any:
        seen = await call(sandbox.get_process, NAME)
        return seen if seen.managed.restart_count == 2 else None

    seen = await eventually(third)
    assert seen.managed.last_exit.signal == signal.SIGKILL
    await eventually(lambda: has_printed(sandbox, 3))
    await call(sandbox.kill_process, NAME)
    assert [event.line for event in await call(lambda: list(sandbox.follow_output(NAME)))] == ["value\n"] * 3


async def test_a_managed_process_is_stopped_by_name(sandbox: Sandbox) -> None:
    await start_managed(sandbox)
    await call(sandbox.kill_process, NAME)
    stopped = await call(sandbox.get_process, NAME)
    assert stopped.managed.status.value == "stopped"


async def test_a_process_that_is_not_managed_cannot_be_restarted(sandbox: Sandbox) -> None:
    other = await call(sandbox.start_process, "true")
    with pytest.raises(RemoteAPIError) as raised:
        await call(sandbox.restart_process, other.pid)
    assert raised.value.status_code == 400


async def has_printed(sandbox: Sandbox, count: int) -> bool:
    return len((await call(sandbox.get_stdout, NAME)).lines) >= count


async def test_a_follower_gets_everything_over_an_orderly_restart(daemon: Daemon) -> None:
    """The client asks again by itself when a stream is broken off, and takes one that ends in order for complete."""
    sandbox = Sandbox("local", proxy_url=daemon.url, api_key=daemon.token)
    process = await call(sandbox.start_process, PYTHON, ["-c", ASKED], stdin_mode=StdinMode.PIPE)
    following = asyncio.create_task(events(sandbox.follow_output, process.pid))
    for _ in range(5):
        await call(sandbox.write_stdin, process.pid, b"go on\n")
    await daemon.wait_for_lines({"id": process.pid}, 5)
    address = daemon.url.removeprefix("http://")
    await daemon.stop(signal.SIGTERM)
    await daemon.start("--listen", address)
    for _ in range(5):
        await call(sandbox.write_stdin, process.pid, b"go on\n")
    await call(sandbox.close_stdin, process.pid)
    assert await following == [(f"Processing item {number}\n", "stdout") for number in range(1, 11)]
    sandbox.close()
