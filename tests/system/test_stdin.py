"""Standard input: every byte, in order, with backpressure, and nobody else is held up."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

HASH = "import hashlib, sys\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"


async def test_any_size_arrives_whole(daemon: Daemon) -> None:
    process = await daemon.python(HASH, stdin_mode="pipe")
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()

    async def blocks() -> AsyncIterator[bytes]:
        for i in range(40):
            digest.update(block[i:])
            yield block[i:]

    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=blocks())
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.lines(process) == [digest.hexdigest()]


async def test_empty_or_binary_input_arrives_whole(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"")
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\0\xff\n")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.raw(process) == b"\0\xff\n"


async def test_a_blocked_reader_delays_no_other(daemon: Daemon) -> None:
    stuck = await daemon.run("sleep", "1000", stdin_mode="pipe")
    writer = asyncio.create_task(daemon.call("POST", f"/processes/{stuck['id']}/stdin", 400, data=b"x" * (1 << 20)))
    other = await daemon.run("cat", stdin_mode="pipe")
    await daemon.call("POST", f"/processes/{other['id']}/stdin", 204, data=b"y" * 300_000)
    await daemon.call("POST", f"/processes/{other['id']}/stdin/close", 204)
    await daemon.ended(other)
    assert await daemon.raw(other) == b"y" * 300_000
    assert not writer.done()
    await daemon.call("POST", f"/processes/{stuck['id']}/signal", 200, {"signal": "SIGKILL"})
    assert (await writer)["code"] == "NOT_RUNNING"


async def test_a_writer_that_hangs_up_leaves_the_next_its_turn(daemon: Daemon) -> None:
    process = await daemon.python(
        "import sys, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('ready', flush=True)\n"
        "signal.sigwait([signal.SIGUSR1])\nprint(len(sys.stdin.buffer.read()))",
        stdin_mode="pipe",
    )
    await anext(daemon.follow(process))
    url = f"{daemon.url}/api/v1/processes/{process['id']}/stdin"
    impatient = aiohttp.ClientTimeout(total=0.5)
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            async with daemon.session.post(url, data=b"a" * 500_000, timeout=impatient):
                pass
    last = asyncio.create_task(daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"b" * 100_000))
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": signal.SIGUSR1})
    await last
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert int((await daemon.lines(process))[1]) >= 100_000


async def test_two_writers_do_not_mix(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    await asyncio.gather(
        *(
            daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=letter * 200_000 + b"\n")
            for letter in (b"a", b"b", b"c")
        )
    )
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert sorted(await daemon.lines(process)) == [letter * 200_000 for letter in "abc"]


async def test_stdin_that_is_not_writable_is_an_error(daemon: Daemon) -> None:
    closed = await daemon.run("sleep", "1000")
    error = await daemon.call("POST", f"/processes/{closed['id']}/stdin", 400, data=b"x")
    assert error["code"] == "STDIN_NOT_WRITABLE"
    assert "stdin_mode" in error["error"]
    error = await daemon.call("POST", f"/processes/{closed['id']}/stdin/close", 400)
    assert error["code"] == "STDIN_NOT_WRITABLE"
    piped = await daemon.run("sleep", "1000", stdin_mode="pipe")
    assert piped["stdin_writable"]
    await daemon.call("POST", f"/processes/{piped['id']}/stdin/close", 204)
    assert not (await daemon.get(piped))["stdin_writable"]
    error = await daemon.call("POST", f"/processes/{piped['id']}/stdin", 400, data=b"x")
    assert error["code"] == "STDIN_NOT_WRITABLE"
    ended = await daemon.run("true", stdin_mode="pipe")
    await daemon.ended(ended)
    error = await daemon.call("POST", f"/processes/{ended['id']}/stdin", 400, data=b"x")
    assert error["code"] == "NOT_RUNNING"


async def test_a_process_may_close_its_standard_input(daemon: Daemon) -> None:
    process = await daemon.sh("exec 0<&-; echo closed; sleep 1000", stdin_mode="pipe")
    await anext(daemon.follow(process))

    async def told() -> bool:
        return not (await daemon.get(process))["stdin_writable"]

    await eventually(told)
    error = await daemon.call("POST", f"/processes/{process['id']}/stdin", 400, data=b"x")
    assert error["code"] == "STDIN_NOT_WRITABLE"
