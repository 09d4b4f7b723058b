"""Daemons come and go; processes, listings and follow streams stay."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import Event
from outlast.model.output import MAX_UNSTORED_LINES
from outlast.shim.connection.listener import Listener
from outlast.wire import codec
from tests.support.daemon import Daemon, close_pipes, is_running, outlast, shim_children, shim_pid
from tests.support.patched_daemon import patched_daemon
from tests.support.programs import COUNTER
from tests.support.waiting import DEADLINE_S, eventually

how_it_ends = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])


async def first(events: AsyncIterator[Event], count: int) -> AsyncIterator[Event]:
    """Yield the first `count` events."""
    async for event in events:
        yield event
        count -= 1
        if not count:
            return


async def events_of(daemon: Daemon, process: dict[str, object]) -> list[Event]:
    """Read the stored output as events."""
    last = (await daemon.get(process))["output"]["last_seq"]
    events: list[Event] = []
    async for event in daemon.follow(process):
        events.append(event)
        if event.id == last:
            break
    return events


@how_it_ends
async def test_running_processes_survive_a_restart(daemon: Daemon, number: int) -> None:
    counter = await daemon.python(COUNTER)
    reader = await daemon.run("cat", stdin_mode="pipe", tags={"kind": "reader"})
    await daemon.wait_for_lines(counter, 20)
    await daemon.stop(number)
    assert is_running(counter["pid"])
    assert is_running(reader["pid"])
    await daemon.start()
    listed = (await daemon.call("GET", "/processes", 200))["processes"]
    assert [(p["id"], p["pid"], p["status"]) for p in listed] == [
        (p["id"], p["pid"], "running") for p in (reader, counter)
    ]
    assert listed[0]["stdin_writable"]
    assert listed[0]["tags"] == {"kind": "reader"}
    before = listed[1]["output"]["lines"]
    await daemon.wait_for_lines(counter, before + 20)
    await daemon.call("POST", f"/processes/{reader['id']}/stdin", 204, data=b"still there\n")
    await daemon.call("POST", f"/processes/{reader['id']}/stdin/close", 204)
    assert (await daemon.ended(reader))["exit_code"] == 0
    assert await daemon.raw(reader) == b"still there\n"
    await daemon.call("POST", f"/processes/{counter['id']}/signal", 200, {"signal": "SIGTERM"})
    ended = await daemon.ended(counter)
    assert (ended["status"], ended["signal"], ended["reason"]) == ("signaled", signal.SIGTERM, "signaled")
    lines = await daemon.lines(counter)
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


@how_it_ends
async def test_ends_during_a_restart_are_recorded(daemon: Daemon, number: int) -> None:
    exits = await daemon.run("sh", "-c", "read x; echo bye; exit 42", stdin_mode="pipe")
    killed = await daemon.run("sleep", "1000")
    await daemon.stop(number)
    (Path(f"/proc/{exits['pid']}/fd/0")).write_text("\n")  # its standard input is open: nobody got SIGPIPE
    os.kill(killed["pid"], signal.SIGUSR1)
    await eventually(lambda: not is_running(exits["pid"]) and not is_running(killed["pid"]))
    await daemon.start()
    exits = await daemon.ended(exits)
    assert (exits["status"], exits["exit_code"], exits["signal"], exits["reason"]) == ("exited", 42, None, "exited")
    assert await daemon.raw(exits) == b"bye\n"
    killed = await daemon.ended(killed)
    assert (killed["status"], killed["signal"]) == ("signaled", signal.SIGUSR1)
    for process in (exits, killed):
        assert process["started_at"] <= process["ended_at"]


async def test_ends_have_the_time_at_which_they_came(daemon: Daemon) -> None:
    process = await daemon.python("import time; print(time.time_ns() // 10**6)")
    other = await daemon.run("sh", "-c", "read x; date +%s%3N", stdin_mode="pipe")
    await daemon.ended(process)
    await daemon.kill()
    (Path(f"/proc/{other['pid']}/fd/0")).write_text("\n")
    await eventually(lambda: not is_running(other["pid"]))
    end = time.monotonic()
    await eventually(lambda: time.monotonic() > end + 3)  # the time of reading and that of recovery must differ
    await daemon.start()
    ended = await daemon.ended(other)
    written_ms = int((await daemon.lines(other))[0])
    (event, _eof) = await daemon.drained(other)
    assert abs(event.data["timestamp"] - written_ms) < 2000
    assert abs(ended["ended_at"] - written_ms) < 2000


@how_it_ends
async def test_old_output_is_replayed_unchanged(daemon: Daemon, number: int) -> None:
    process = await daemon.sh("for i in 1 2 3; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done")
    before = await daemon.drained(process)
    await daemon.stop(number)
    await daemon.start()
    assert await daemon.drained(process) == before
    assert [event.data["line"] for event in before[:-1]] == [
        f"{stream} {i}\n" for i in (1, 2, 3) for stream in ("out", "err")
    ]


async def test_a_follower_resumes_over_kills(daemon: Daemon) -> None:
    process = await daemon.python(COUNTER)
    seen: list[Event] = []
    for kill in range(4):
        last = str(seen[-1].id) if seen else "0"
        async for event in daemon.follow(process, **{"Last-Event-ID": last}):
            seen.append(event)
            if len(seen) >= (kill + 1) * 60:
                break
        await daemon.kill()
        await daemon.start()
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert [event.data["line"] for event in seen] == [f"{i}\n" for i in range(1, len(seen) + 1)]


async def test_a_flood_loses_nothing_over_kills(daemon: Daemon) -> None:
    process = await daemon.python(
        "import sys\nfor i in range(300):\n"
        "    sys.stdout.write(''.join(f'{j:09d} {\"x\" * 85}\\n' for j in range(i * 1000, i * 1000 + 1000)))"
    )
    for count in (20_000, 80_000, 150_000, 220_000):
        await daemon.wait_for_lines(process, count)
        await daemon.kill()
        await daemon.start()
    ended = await daemon.ended(process)
    assert ended["exit_code"] == 0
    raw = await daemon.raw(process)
    assert raw == b"".join(b"%09d %s\n" % (i, b"x" * 85) for i in range(300_000))
    assert ended["output"]["lines"] == 300_000


async def test_output_written_without_a_daemon_is_kept(daemon: Daemon) -> None:
    size = 40 << 20
    process = await daemon.python(
        "import sys\nsys.stdin.readline()\nfor i in range(40):\n    sys.stdout.write(('y' * 1023 + '\\n') * 1024)",
        stdin_mode="pipe",
    )
    await daemon.kill()
    (Path(f"/proc/{process['pid']}/fd/0")).write_text("\n")
    await eventually(lambda: not is_running(process["pid"]))  # it was not held up: the shim took all of it
    await daemon.start()
    assert (await daemon.ended(process))["output"]["bytes"] == size
    assert await daemon.raw(process) == (b"y" * 1023 + b"\n") * (40 * 1024)


async def test_a_process_waits_at_the_buffer_limit(state_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(f"buffer_limit_bytes = {1 << 20}\n")
    daemon = Daemon(state_dir)
    try:
        await daemon.start("--config", str(config))
        process = await daemon.python(
            "import sys\nsys.stdin.readline()\nfor i in range(16):\n    sys.stdout.write(('z' * 1023 + '\\n') * 1024)",
            stdin_mode="pipe",
        )
        await daemon.kill()
        (Path(f"/proc/{process['pid']}/fd/0")).write_text("\n")

        def blocked() -> bool:
            return "pipe_write" in Path(f"/proc/{process['pid']}/wchan").read_text()

        await eventually(blocked)
        await daemon.start("--config", str(config))
        assert (await daemon.ended(process))["output"]["bytes"] == 16 << 20
    finally:
        await daemon.end_everything()


async def test_a_partial_line_survives_a_kill(daemon: Daemon) -> None:
    process = await daemon.run("sh", "-c", "printf before; read x; printf ' after\\n'", stdin_mode="pipe")
    await daemon.kill()
    await daemon.start()
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await daemon.ended(process)
    assert await daemon.raw(process) == b"before after\n"


async def test_a_process_is_lost_when_the_machine_goes_down(daemon: Daemon) -> None:
    process = await daemon.sh("echo here; sleep 1000")
    await anext(daemon.follow(process))
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    os.kill(shim, signal.SIGKILL)  # as a reboot does: neither shim nor process is there any more
    os.kill(process["pid"], signal.SIGKILL)
    await eventually(lambda: not is_running(shim) and not is_running(process["pid"]))
    await daemon.start()
    lost = await daemon.get(process)
    assert (lost["status"], lost["reason"], lost["exit_code"], lost["signal"]) == ("exited", "lost", None, None)
    assert lost["ended_at"] is not None
    events = await daemon.drained(process)
    assert [event.kind for event in events] == ["output", "gap", "gap", "eof"]  # each stream may have gone on
    numbers = (MAX_UNSTORED_LINES + 2, MAX_UNSTORED_LINES + 3)  # others may have been seen
    assert [event.data for event in events[1:3]] == [{"from": n, "to": n, "reason": "lost"} for n in numbers]
    error = await daemon.call("POST", f"/processes/{process['id']}/signal", 400, {"signal": 15})
    assert error["code"] == "NOT_RUNNING"
    again = await daemon.sh("echo again")
    await daemon.ended(again)
    assert await daemon.lines(again) == ["again"]


async def test_a_shim_of_another_version_is_left_alone(daemon: Daemon) -> None:
    process = await daemon.python(COUNTER)
    await daemon.stop()
    other = patched_daemon(daemon.state_dir, "import outlast.wire.codec\noutlast.wire.codec.PROTOCOL_VERSION = 999\n")
    with pytest.raises(AssertionError):
        await other.start()
    assert other.process is not None
    assert await other.process.wait() == 1
    close_pipes(other.process)
    assert (
        f"version {codec.PROTOCOL_VERSION} of the protocol, this daemon version 999: nothing was touched" in other.log
    )
    assert is_running(process["pid"])
    await daemon.start()
    before = (await daemon.get(process))["output"]["lines"]
    await daemon.wait_for_lines(process, before + 10)


async def test_an_unrecorded_start_is_recorded_by_the_next_daemon(daemon: Daemon) -> None:
    """A start whose daemon dies before the record: nothing runs that the next daemon does not list."""
    burst = [asyncio.create_task(daemon.run("sleep", "1000")) for _ in range(40)]

    async def some_started() -> bool:
        return any(task.done() for task in burst)

    await eventually(some_started)
    await daemon.kill()
    await asyncio.gather(*burst, return_exceptions=True)
    await daemon.start()

    async def all_listed() -> bool:  # what was under way when the daemon died may take a moment yet
        listed = await daemon.call("GET", "/processes?status=running", 200)
        return shim_children(daemon.state_dir) == {p["pid"] for p in listed["processes"]}

    await eventually(all_listed)


async def test_a_store_in_memory_continues_after_a_restart(state_dir: Path, tmp_path: Path) -> None:
    """`memory:` keeps nothing over a restart; the processes and what they print from then on are there."""
    config = tmp_path / "memory.toml"
    config.write_text('storage = "memory:"\n')
    daemon = Daemon(state_dir)
    try:
        await daemon.start("--config", str(config))
        process = await daemon.run("cat", stdin_mode="pipe")
        for word in (b"before", b"after", b"again"):
            await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=word + b"\n")
            events = [event async for event in first(daemon.follow(process), 1 if word == b"before" else 2)]
            assert [event.kind for event in events] == ["gap", "output"][-len(events) :]
            assert events[-1].data["line"] == word.decode() + "\n"
            await daemon.get(process)  # answered when the shim has dropped the stored line
            await daemon.kill()
            await daemon.start("--config", str(config))
        await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
        assert (await daemon.ended(process))["exit_code"] == 0
    finally:
        await daemon.end_everything()


async def test_a_store_from_a_backup_continues_after_a_gap(daemon: Daemon, tmp_path: Path) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")

    async def write(word: bytes) -> None:
        before = (await daemon.get(process))["output"]["lines"]
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=word + b"\n")
        await daemon.wait_for_lines(process, before + 1)

    await write(b"in the backup")
    with sqlite3.connect(daemon.state_dir / "outlast.db") as live, sqlite3.connect(tmp_path / "copy.db") as copy:
        live.backup(copy)
    live.close()
    copy.close()
    await write(b"after the backup")
    await write(b"and once more")  # by now the shim has heard that the line before is stored
    await daemon.kill()
    for path in daemon.state_dir.glob("outlast.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", daemon.state_dir / "outlast.db")
    await daemon.start()
    await write(b"behind the hole")
    lines = await daemon.lines(process)
    assert (lines[0], lines[-1]) == ("in the backup", "behind the hole")
    assert "after the backup" not in lines
    assert "bytes of process" in daemon.log
    gaps = [event for event in await events_of(daemon, process) if event.kind == "gap"]
    assert [event.data["reason"] for event in gaps] == ["store_replaced"]
    assert gaps[0].data["from"] > MAX_UNSTORED_LINES, "a number that was told means another line now"
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    assert (await daemon.ended(process))["exit_code"] == 0


@pytest.mark.parametrize("is_in_backup", [True, False])
async def test_a_later_run_continues_with_a_backup_that_lacks_it(
    daemon: Daemon, tmp_path: Path, *, is_in_backup: bool
) -> None:
    def back_up() -> None:
        with contextlib.closing(sqlite3.connect(daemon.state_dir / "outlast.db")) as live:
            live.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))

    if not is_in_backup:
        back_up()
    script = 'i=0; while read word; do i=$((i+1)); echo "$word $NAME"; done'
    process = await daemon.sh(script, name="web", env={"NAME": "Ada"}, stdin_mode="pipe", restart={"policy": "always"})
    if is_in_backup:
        back_up()
    for number in range(3):
        if number:
            await daemon.call("POST", f"/processes/{process['id']}/restart", 200)
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"hello\n")
        await daemon.wait_for_lines(process, number + 1)
    before = await daemon.get(process)
    await daemon.kill()
    for path in daemon.state_dir.glob("outlast.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", daemon.state_dir / "outlast.db")
    await daemon.start()
    after = await daemon.get(process)
    assert [after[key] for key in ("run", "pid", "status")] == [3, before["pid"], "running"]
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"again\n")
    await daemon.wait_for_lines(process, 1)
    assert (await daemon.lines(process))[-1] == "again Ada"
    assert "store_replaced" in [event[0] for event in daemon.sql("SELECT reason FROM output_gaps")]
    assert (await daemon.call("POST", f"/processes/{process['id']}/restart", 200))["run"] == 4
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"once more\n")
    await daemon.wait_for_lines(process, 2)
    assert (await daemon.lines(process))[-1] == "once more Ada"


class PlayedShim:
    """A shim that the test plays: it holds one process that has ended, and hears what the daemon has it forget."""

    def __init__(self, process: dict[str, Any]) -> None:
        self.forgotten: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        self._held = {
            "slot": 7,
            "record": {"id": process["id"]},
            "pid": process["pid"],
            "started_at_ms": 1,
            "group": None,
            "has_pidfd": False,
            "stdin_open": False,
            "exited": {"code": 3, "timed_out": False, "ts_ms": 2},
            "streams": [],
            "frames": [],
            "fds": 0,
            "is_waiting": False,
            "is_starting": False,
            "failed": None,
            "timeout_ms": None,
            "deadline_ms": None,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Meet one daemon."""
        writer.write(codec.encode_greeting(codec.PROTOCOL_VERSION, {"pid": os.getpid(), "version": "0"}))
        writer.write(codec.encode_json(codec.MessageType.INVENTORY, self._held))
        writer.write(codec.encode(codec.MessageType.INVENTORY_END))
        decoder = codec.Decoder(1 << 16)
        while data := await reader.read(1 << 10):
            decoder.space()[: len(data)] = data
            decoder.filled(len(data))
            for kind, payload in decoder.messages():
                if kind is codec.MessageType.FORGET:
                    self.forgotten.set_result(json.loads(bytes(payload)))
                elif kind is codec.MessageType.API_SOCKETS:
                    writer.write(codec.encode_json(codec.MessageType.REPLY, {"request": 0, "sockets": []}))
        writer.close()


async def test_the_shim_forgets_an_end_that_is_already_stored(daemon: Daemon) -> None:
    """The kill came between the last commit and its acknowledgement: the shim still has what the store has whole."""
    process = await daemon.sh("exit 3")
    await daemon.ended(process)
    await daemon.hang_up()
    assert (await outlast("shutdown", "--state-dir", str(daemon.state_dir)))[0] == 0
    assert daemon.process is not None
    await daemon.process.wait()
    shim = PlayedShim(process)
    listener = Listener(daemon.state_dir)
    async with await asyncio.start_unix_server(shim.serve, sock=listener.sock):
        await daemon.start()
        assert await asyncio.wait_for(shim.forgotten, DEADLINE_S) == {"slot": 7}
        assert (await daemon.get(process))["exit_code"] == 3
        await daemon.stop()
    listener.close()
