"""Commands run to their end with the official Python client."""

import asyncio
import os
import signal

import pytest
from tensorlake.sandbox import AsyncSandbox, CommandExitReason, ProcessUserSpec, RemoteAPIError, Sandbox

from tests.support.daemon import PYTHON, Daemon, is_running
from tests.support.waiting import eventually

from .blocking import call

NASTY = b'a\rb\t\x00\xff \xf0\x9f\x90\x99 "quoted" \\n\n\nno newline at the end'


async def test_run_returns_the_result_of_a_command(sandbox: Sandbox, daemon: Daemon) -> None:
    folder = str(daemon.state_dir)
    script = 'echo "$GREETING from $PWD"; echo second; echo wrong >&2; exit 3'
    me = ProcessUserSpec(uid=os.getuid(), gid=os.getgid())
    done = await call(sandbox.run, "sh", ["-c", script], env={"GREETING": "hello"}, working_dir=folder, user=me)
    assert (done.exit_code, done.reason) == (3, CommandExitReason.EXITED)
    assert (done.stdout, done.stderr) == (f"hello from {folder}\nsecond", "wrong")

    silent = await call(sandbox.run, "true")
    assert (silent.exit_code, silent.reason, silent.stdout, silent.stderr) == (0, CommandExitReason.EXITED, "", "")

    nasty = await call(sandbox.run, PYTHON, ["-c", f"import sys; sys.stdout.buffer.write({NASTY!r})"])
    assert nasty.stdout == NASTY.decode("utf-8", "replace")

    killed = await call(sandbox.run, "sh", ["-c", "echo before; kill -TERM $$"])
    assert (killed.exit_code, killed.reason) == (-signal.SIGTERM, CommandExitReason.SIGNALED)
    assert killed.stdout == "before"

    # It is kept like any other's.
    kept = await call(lambda: list(sandbox.list_processes()))
    assert len(kept) == 4
    assert (await call(sandbox.get_output, kept[0].pid)).lines == ["before"]


async def test_a_timeout_kills_the_whole_tree(sandbox: Sandbox) -> None:
    script = "sleep 1000 & echo $!; sleep 1000"
    done = await call(sandbox.run, "sh", ["-c", script], timeout=1.5)
    assert (done.exit_code, done.reason, done.timed_out) == (-signal.SIGKILL, CommandExitReason.TIMED_OUT, True)
    await eventually(lambda: not is_running(int(done.stdout)), "the end of the grandchild")
    in_time = await call(sandbox.run, "echo", ["hello"], timeout=1000)
    assert (in_time.exit_code, in_time.stdout, in_time.timed_out) == (0, "hello", False)


async def test_a_run_that_cannot_start_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(RemoteAPIError) as caught:
        await call(sandbox.run, "no-such-command")
    assert (caught.value.status_code, caught.value.code) == (422, "SPAWN_FAILED")
    with pytest.raises(RemoteAPIError) as caught:
        await call(sandbox.run, "true", timeout=-1)
    assert (caught.value.status_code, caught.value.code) == (400, "INVALID_REQUEST")
    assert "timeout" in caught.value.message
    assert await call(lambda: list(sandbox.list_processes())) == []


async def test_the_asynchronous_client_runs_several_at_once(daemon: Daemon) -> None:
    async with AsyncSandbox("local", proxy_url=daemon.url, api_key=daemon.token) as sandbox:
        runs = [sandbox.run("sh", ["-c", f"echo {number}; exit {number}"]) for number in range(4)]
        done = await asyncio.gather(*runs)
    assert [(each.exit_code, each.stdout) for each in done] == [(number, str(number)) for number in range(4)]
