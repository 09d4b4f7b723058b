"""Terminals, used with the official Python clients as they come from their maker."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator

import pytest
from tensorlake.sandbox import AsyncSandbox, RemoteAPIError, Sandbox, SandboxConnectionError

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

from .blocking import call

# The blocking client leaves the socket of a session that has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")

READER = 'stty -echo; stty size; read line; echo "$GREETING $line from $PWD"; exit 3'
WAIT_S = 20


class Heard:
    """A callback that keeps all that a client was given."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    async def hears(self, what: bytes) -> None:
        await eventually(lambda: what in self.data, f"{what!r} in what the terminal shows")


@pytest.fixture
async def async_sandbox(daemon: Daemon) -> AsyncIterator[AsyncSandbox]:
    client = AsyncSandbox("local", proxy_url=daemon.url, api_key=daemon.token)
    yield client
    client.close()


async def test_a_program_is_typed_to_and_ends(sandbox: Sandbox) -> None:
    heard = Heard()
    pty = await call(
        sandbox.create_pty,
        "sh",
        ["-c", READER],
        {"GREETING": "hello"},
        "/tmp",
        30,
        100,
        on_data=heard,
    )
    await heard.hears(b"30 100\r\n")
    await call(pty.send_input, "zwölf\n")
    assert await call(pty.wait, WAIT_S) == 3
    assert heard.data == "30 100\r\nhello zwölf from /tmp\r\n".encode()


async def test_a_program_is_typed_to_and_ends_for_the_asynchronous_client(async_sandbox: AsyncSandbox) -> None:
    heard = Heard()
    pty = await async_sandbox.create_pty(
        "sh", ["-c", READER], {"GREETING": "hello"}, "/tmp", rows=30, cols=100, on_data=heard
    )
    await heard.hears(b"30 100\r\n")
    await pty.send_input("zwölf\n")
    assert await pty.wait(WAIT_S) == 3
    assert heard.data == "30 100\r\nhello zwölf from /tmp\r\n".encode()


async def test_every_session_that_ends_is_told_its_exit_code(sandbox: Sandbox, async_sandbox: AsyncSandbox) -> None:
    async def run(number: int) -> None:
        if number % 2:
            pty = await async_sandbox.create_pty("sh", ["-c", f"exit {number}"])
            assert await pty.wait(WAIT_S) == number
        else:
            pty = await call(sandbox.create_pty, "sh", ["-c", f"exit {number}"])
            assert await call(pty.wait, WAIT_S) == number

    await asyncio.gather(*map(run, range(40)))


async def test_a_signal_is_told_as_a_negative_number(async_sandbox: AsyncSandbox) -> None:
    pty = await async_sandbox.create_pty("sh", ["-c", "kill -TERM $$"])
    assert await pty.wait(WAIT_S) == -signal.SIGTERM


async def test_keys_send_signals(sandbox: Sandbox) -> None:
    heard = Heard()
    pty = await call(sandbox.create_pty, "sh", ["-c", "echo ready; sleep 1000"], on_data=heard)
    await heard.hears(b"ready")
    await call(pty.send_input, "\x03")
    assert await call(pty.wait, WAIT_S) == -signal.SIGINT


async def test_a_terminal_has_the_size_that_it_is_given(sandbox: Sandbox) -> None:
    heard = Heard()
    script = 'trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.01; done'
    pty = await call(sandbox.create_pty, "sh", ["-c", script], on_data=heard)
    await heard.hears(b"ready")
    await call(pty.resize, 132, 43)
    assert await call(pty.wait, WAIT_S) == 0
    assert b"43 132" in heard.data


@pytest.mark.parametrize("size", [70_000, 900_000])
async def test_a_large_paste_arrives_whole(sandbox: Sandbox, size: int) -> None:
    heard = Heard()
    pty = await call(
        sandbox.create_pty, "sh", ["-c", f"stty raw -echo; echo ready; head -c {size} | md5sum"], on_data=heard
    )
    await heard.hears(b"ready")
    await call(pty.send_input, b"x" * size)
    assert await call(pty.wait, 2 * WAIT_S) == 0
    assert hashlib.md5(b"x" * size).hexdigest().encode() in heard.data  # noqa: S324


async def test_a_client_that_comes_back_after_a_kill_of_the_daemon_goes_on(daemon: Daemon) -> None:
    async with AsyncSandbox("local", proxy_url=daemon.url, api_key=daemon.token) as client:
        session = (await client.create_pty_session("cat")).value
        first = Heard()
        pty = await client.connect_pty(session["session_id"], session["token"], on_data=first)
        await pty.send_input("before\n")
        await first.hears(b"before\r\nbefore\r\n")
        await daemon.kill()
    await daemon.start()
    async with AsyncSandbox("local", proxy_url=daemon.url, api_key=daemon.token) as client:
        second = Heard()
        pty = await client.connect_pty(session["session_id"], session["token"], on_data=second)
        await pty.send_input("after\n\x04")
        assert await pty.wait(WAIT_S) == 0
        assert second.data == b"before\r\nbefore\r\nafter\r\nafter\r\n"


async def test_a_client_leaves_and_comes_back(sandbox: Sandbox) -> None:
    heard, again = Heard(), Heard()
    pty = await call(sandbox.create_pty, "sh", ["-c", "read x; read y; echo $x $y"], on_data=heard)
    await call(pty.send_input, "one\n")
    await heard.hears(b"one")
    await call(pty.disconnect)
    assert not pty.connected
    pty = await call(sandbox.connect_pty, pty.session_id, pty.token, on_data=again)
    await call(pty.send_input, "two\n")
    assert await call(pty.wait, WAIT_S) == 0
    assert again.data.endswith(b"one two\r\n")


@pytest.mark.slow
async def test_an_idle_terminal_keeps_its_blocking_client(sandbox: Sandbox) -> None:
    pty = await call(sandbox.create_pty, "sh", ["-c", "read x; exit 4"], connect_timeout=8.0)
    with pytest.raises(TimeoutError):
        await call(pty.wait, 10)
    await call(pty.send_input, "\n")
    assert await call(pty.wait, WAIT_S) == 4


async def test_a_terminal_is_killed(sandbox: Sandbox) -> None:
    pty = await call(sandbox.create_pty, "sleep", ["1000"])
    await call(pty.kill)
    assert await call(pty.wait, WAIT_S) == -signal.SIGHUP


async def test_a_killed_session_cannot_be_killed_again(sandbox: Sandbox) -> None:
    pty = await call(sandbox.create_pty, "sleep", ["1000"])
    await call(pty.kill)
    await call(pty.wait, WAIT_S)

    with pytest.raises(RemoteAPIError) as refusal:
        await call(pty.kill)
    assert refusal.value.status_code == 404


async def test_a_program_that_cannot_start_says_why(sandbox: Sandbox) -> None:
    with pytest.raises(RemoteAPIError, match="no-such-command"):
        await call(sandbox.create_pty, "no-such-command")


async def test_a_wrong_token_is_refused(async_sandbox: AsyncSandbox) -> None:
    session = (await async_sandbox.create_pty_session("cat")).value
    with pytest.raises(SandboxConnectionError, match="403"):
        await async_sandbox.connect_pty(session["session_id"], "0" * 64)
