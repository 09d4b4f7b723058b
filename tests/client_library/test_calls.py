"""Calls of the client: what they return, and what they raise."""

import asyncio
import contextlib
import errno
import signal
from pathlib import Path

import pytest

from outlast import AsyncOutlast
from outlast.client import (
    Disconnected,
    Event,
    InvalidRequest,
    Line,
    NameInUse,
    NotFound,
    NotManaged,
    NotRunning,
    ProcessFailed,
    ProcessGone,
    SpawnFailed,
    Started,
    StdinNotWritable,
    Unauthorized,
)
from tests.client_library.threaded import connect
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S

ECHO_TWO = "echo one; echo two >&2; exit 3"


async def test_a_command_is_run_to_its_end(ol: AsyncOutlast, tmp_path: Path) -> None:
    done = await ol.run("sh", "-c", f"pwd; {ECHO_TWO}", cwd=tmp_path)
    assert (done.exit_code, done.signal, done.reason) == (3, None, "exited")
    assert (done.stdout, done.stderr) == (f"{tmp_path}\none", "two")
    assert {line.stream for line in done.lines} == {"stdout", "stderr"}


async def test_a_command_that_fails_raises_if_that_is_asked_for(ol: AsyncOutlast) -> None:
    with pytest.raises(ProcessFailed, match="sh exited with 3") as raised:
        await ol.run("sh", "-c", ECHO_TWO, check=True)
    assert raised.value.completed.stdout == "one"
    with pytest.raises(ProcessFailed, match="sleep ended: timed_out"):
        await ol.run("sleep", "1000", timeout=0.05, check=True)


async def test_a_run_that_is_left_is_killed(ol: AsyncOutlast) -> None:
    async with contextlib.aclosing(ol.run_stream("sleep", "1000")) as items:
        assert isinstance(await anext(items), Started)
    (process,) = [found async for found in ol.processes()]
    assert process.info.signal == signal.SIGKILL


async def test_a_process_is_started_found_and_killed(ol: AsyncOutlast) -> None:
    process = await ol.start("sleep", "1000", name="web", tags={"team": "a"}, restart="never")
    assert (process.name, process.info.tags, process.info.is_running) == ("web", {"team": "a"}, True)
    for ref in ("web", process.id, process.pid):
        assert (await ol.process(ref)).info == process.info
    with pytest.raises(NameInUse):
        await ol.start("sleep", "1", name="web")
    assert [each.id async for each in ol.processes(name="web", tags={"team": "a"}, status="running")] == [process.id]
    assert await process.kill() == []
    assert (await process.refresh()).is_running is False
    assert await process.remove() == []
    with pytest.raises(NotFound):
        await process.refresh()


async def test_a_key_starts_one_process(ol: AsyncOutlast) -> None:
    first, second, other = [await ol.start("true", key=key) for key in ("a", "a", "b")]
    assert first.id == second.id != other.id


async def test_failures_have_the_daemons_code_and_sentence(ol: AsyncOutlast) -> None:
    with pytest.raises(SpawnFailed, match="/no/such") as refused:
        await ol.start("/no/such")
    assert (refused.value.errno, refused.value.code) == (errno.ENOENT, "SPAWN_FAILED")
    with pytest.raises(NotFound, match="'nobody'") as missing:
        await ol.process("nobody")
    assert missing.value.code == "NOT_FOUND"
    with pytest.raises(InvalidRequest, match="nice") as wrong:
        await ol.start("true", nice=99)
    assert wrong.value.code == "INVALID_REQUEST"


async def test_a_process_can_be_waited_for(ol: AsyncOutlast, daemon: Daemon) -> None:
    process = await ol.start("sh", "-c", "read line; echo got $line; read line; exit 5", stdin="pipe")
    with pytest.raises(TimeoutError):
        await process.wait(0.01)
    await process.send("x\n")
    line = await process.wait_for_output(r"got \w", timeout=DEADLINE_S)
    assert (line.text, line.stream) == ("got x", "stdout")
    await process.wait_idle(0.01, timeout=DEADLINE_S)
    await process.wait_for_port(int(daemon.url.rpartition(":")[2]), timeout=DEADLINE_S)
    await process.send(b"y\n")
    assert (await process.wait(DEADLINE_S)).exit_code == 5
    with pytest.raises(NotRunning):
        await process.wait_for_output("never", timeout=DEADLINE_S)
    with pytest.raises(NotRunning):
        await process.send("z")


async def test_standard_input_is_written_and_closed(ol: AsyncOutlast) -> None:
    closed = await ol.start("cat")
    await closed.wait(DEADLINE_S)
    process = await ol.start("cat", stdin="pipe")
    await process.send("ä\n")
    await process.close_stdin()
    with pytest.raises((StdinNotWritable, NotRunning)):
        await process.send("x")
    assert (await process.wait(DEADLINE_S)).exit_code == 0
    assert await process.bytes() == "ä\n".encode()


async def test_a_process_is_signalled_and_stopped(ol: AsyncOutlast) -> None:
    process = await ol.start("sleep", "1000")
    await process.signal("TERM", scope="process")
    assert (await process.wait(DEADLINE_S)).signal == signal.SIGTERM
    stopped = await ol.start("sleep", "1000")
    assert await stopped.stop() == []
    assert (await stopped.refresh()).signal == signal.SIGTERM
    assert await stopped.stop() == []  # as before
    with pytest.raises(NotRunning):
        await stopped.signal("TERM")


async def test_a_managed_process_is_restarted(ol: AsyncOutlast) -> None:
    process = await ol.start("sleep", "1000", restart="always", stop_grace_ms=0)
    assert (await process.restart()).run == 2
    assert [run.run async for run in process.runs()] == [2, 1]
    assert process.info.managed is not None
    assert process.info.managed.restart["policy"] == "always"
    assert (await process.stats()).run == 2
    with pytest.raises(NotManaged):
        await (await ol.start("true")).restart()


async def test_stored_output_is_read(ol: AsyncOutlast) -> None:
    process = await ol.start("sh", "-c", r"echo one; echo two; printf 'th\377ree'")
    await process.wait(DEADLINE_S)
    [item async for item in process.follow()]
    lines = [(line.seq, line.text, line.complete) async for line in process.lines() if isinstance(line, Line)]
    assert lines == [(1, "one", True), (2, "two", True), (3, "th\N{REPLACEMENT CHARACTER}ree", False)]
    assert await process.bytes() == b"one\ntwo\nth\xffree"

    assert b"".join([data async for data in process.byte_chunks(after=1, limit=1)]) == b"two\n"

    async def seqs(**query: object) -> list[int]:
        return [line.seq async for line in process.lines(**query) if isinstance(line, Line)]  # type: ignore[arg-type]

    assert await seqs(after=1) == [2, 3]
    assert await seqs(tail=1) == [3]
    assert await seqs(limit=2) == [1, 2]
    assert await seqs(grep="two") == await seqs(grep="^T", regex=True, ignore_case=True, limit=1) == [2]
    assert await seqs(before=3, limit=1) == [2]
    assert await seqs(stream="stderr") == []


async def test_events_searches_and_sql_find_a_process(ol: AsyncOutlast) -> None:
    process = await ol.start("sh", "-c", "echo Needle; exit 4")
    await process.wait(DEADLINE_S)
    events: list[Event] = []
    async with contextlib.aclosing(ol.events(process=process.id)) as found:
        async for event in found:
            assert isinstance(event, Event)
            events.append(event)
            if event.type == "exited":
                break
    assert [event.type for event in events] == ["started", "exited"]
    assert (events[1].exit_code, events[1].reason) == (4, "exited")
    assert [event async for event in ol.events(follow=False)] == events
    (match,) = [match async for match in ol.search("^need", regex=True, ignore_case=True)]
    assert (match.process_id, match.line, match.seq) == (process.id, "Needle", 1)
    rows = await ol.sql("SELECT id, exit_code FROM processes WHERE exit_code = ?", [4])
    assert rows.dicts() == [{"id": process.id, "exit_code": 4}]
    assert (await ol.info()).total_processes == 1


async def test_searches_have_more_than_a_page(ol: AsyncOutlast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.client.calls._PAGE", 2)
    ids = []
    for _ in range(5):  # one after the other: matches come in the order in which lines were stored
        process = await ol.start("sh", "-c", "echo x")
        [item async for item in process.follow()]
        ids.append(process.id)
    assert [match.process_id async for match in ol.search("x", order="oldest")] == ids


async def test_a_wrong_token_raises(form: str, daemon: Daemon) -> None:
    daemon.environment["OUTLAST_TOKEN"] = "wrong"
    async with connect(form, daemon) as client:
        with pytest.raises(Unauthorized):
            await client.info()
        with pytest.raises(Unauthorized):
            await anext(client.events())
    del daemon.environment["OUTLAST_TOKEN"]


async def test_a_daemon_that_is_not_there_is_not_waited_for(form: str, daemon: Daemon) -> None:
    await daemon.end_everything()
    async with connect(form, daemon) as client:
        for ask in (client.info(), client.start("true"), anext(client.events())):
            with pytest.raises(Disconnected, match="no daemon answers at http"):
                await asyncio.wait_for(ask, DEADLINE_S)


async def test_a_purge_ends_a_follow(ol: AsyncOutlast, daemon: Daemon) -> None:
    process = await ol.start("sh", "-c", "echo x; sleep 1000")
    async with contextlib.aclosing(process.follow()) as items:
        await anext(items)
        await daemon.kill()
        await daemon.start()
        await process.remove()
        with pytest.raises(ProcessGone):
            await asyncio.wait_for(anext(items), DEADLINE_S)


async def test_a_purge_ends_a_run_and_starts_nothing(ol: AsyncOutlast, daemon: Daemon) -> None:
    async with contextlib.aclosing(ol.run_stream("sleep", "1000")) as items:
        started = await anext(items)
        assert isinstance(started, Started)
        await daemon.kill()
        await daemon.start()
        await (await ol.process(started.id)).remove()
        with pytest.raises(ProcessGone):
            await asyncio.wait_for(anext(items), DEADLINE_S)
    assert [process async for process in ol.processes()] == []
