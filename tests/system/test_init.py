"""`outlast init`: a container's first process, and the daemon's parent. Also as an ordinary process."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlast.linux import lock
from outlast.shim import daemon_supervisor
from outlast.wire.contract import DAEMON_LOCK_NAME, SHIM_LOCK_NAME
from tests.support.daemon import Daemon, is_running, left_over, outlast
from tests.support.init import PROGRAM, Init, need_namespaces
from tests.support.programs import COUNTER
from tests.support.waiting import DEADLINE_S, eventually

POLITE = "trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
# A daemon's command that comes up the first time only; when it was run is in `starts`.
COMES_UP_ONCE = f"""
date +%s.%N >> starts
[ $(wc -l < starts) = 1 ] || exit 3
exec {PROGRAM} serve --listen 127.0.0.1:0
"""


@pytest.fixture(params=["container", pytest.param("process", marks=pytest.mark.long)])
async def init(request: pytest.FixtureRequest, state_dir: Path) -> AsyncIterator[Init]:
    """An init that is not started yet; the end of the test ends it."""
    if request.param == "container":
        need_namespaces()
    made = Init(state_dir, is_pid_1=request.param == "container")
    try:
        yield made
    finally:
        await made.end_everything()


async def test_a_killed_daemon_is_started_again(init: Init) -> None:
    before = time.monotonic()
    await init.start()
    first_start_s = time.monotonic() - before
    counter = await init.python(COUNTER)
    reader = await init.run("cat", stdin_mode="pipe")
    for _ in range(3):
        seen = (await init.get(counter))["output"]["lines"]
        await init.wait_for_lines(counter, seen + 20)
        killed = init.daemon_pid
        os.kill(killed, signal.SIGKILL)
        before = time.monotonic()
        await init.comes_up()
        # The pause before a start, and what a start takes on this machine.
        assert time.monotonic() - before < daemon_supervisor._BETWEEN_STARTS_S + 5 * first_start_s
        assert init.daemon_pid != killed
    for process in (counter, reader):
        now = await init.get(process)
        assert (now["status"], now["pid"]) == ("running", process["pid"])
    await init.call("POST", f"/processes/{reader['id']}/stdin", 204, data=b"still there\n")
    await init.call("POST", f"/processes/{reader['id']}/stdin/close", 204)
    assert (await init.ended(reader))["exit_code"] == 0
    assert await init.raw(reader) == b"still there\n"
    await init.call("DELETE", f"/processes/{counter['id']}", 204)
    await init.ended(counter)
    lines = await init.lines(counter, query="?limit=100000")
    assert lines == [str(i) for i in range(1, len(lines) + 1)]
    assert init.log.count("was killed by signal 9; it is started again") == 3


async def test_a_daemon_that_ended_normally_is_started_again(init: Init) -> None:
    await init.start()
    process = await init.run("sleep", "1000")
    os.kill(init.daemon_pid, signal.SIGTERM)
    await init.comes_up()
    assert (await init.get(process))["status"] == "running"


async def test_orphans_are_reaped(init: Init) -> None:
    await init.start()
    orphans = await init.sh("for i in $(seq 40); do (sh -c 'echo $$; exit 3' & ); done; exit 7")
    assert (await init.ended(orphans))["exit_code"] == 7
    pids = [int(line) for line in await init.lines(orphans)]
    assert len(pids) == 40
    await eventually(lambda: not [pid for pid in pids if init.outer(pid)])
    await eventually(lambda: init.zombies() == [])


@pytest.mark.parametrize(
    "how", ["SIGTERM", "SIGINT", pytest.param("Ctrl-C", marks=pytest.mark.long), "SIGTERM repeated", "Ctrl-C repeated"]
)
async def test_a_signal_ends_everything_in_order(init: Init, how: str) -> None:
    await init.start()
    polite = await init.sh(POLITE)
    plain = await init.sh("setsid sh -c 'exec sleep 1000 >/dev/null 2>&1' & exec sleep 1000")
    await anext(init.follow(polite))
    await init.hang_up()
    init.signal(how)
    await eventually(lambda: "ending everything" in init.log)
    while how.endswith("repeated") and lock.holder(init.state_dir / SHIM_LOCK_NAME) is not None:
        init.signal(how)
        await asyncio.sleep(0)
    assert await init.ends() == 0
    assert left_over(init.state_dir) == []
    assert init.sql("SELECT id, exit_code, signal, reason FROM processes ORDER BY handle") == [
        (polite["id"], 5, None, "exited"),
        (plain["id"], None, signal.SIGTERM, "signaled"),
    ]
    query = "SELECT line FROM output_lines WHERE process_id = ? AND stream = 'stdout' ORDER BY seq"
    assert init.sql(query, polite["id"]) == [("ready",), ("stopped",)]
    assert init.log.count("ending everything") == 1
    assert "2 running processes ended" in (init.output + init.log)
    assert "Traceback" not in init.log


async def test_an_init_is_upgraded_in_place(init: Init) -> None:
    """The init stays the first process, and the daemon's parent: there could be no other."""
    await init.start()
    counter = await init.python(COUNTER)
    daemon = init.daemon_pid
    inside = ["nsenter", "--pid", "--mount", "--target", str(init.init_pid)] if init.is_pid_1 else []
    for _ in range(2):
        upgrade = await asyncio.create_subprocess_exec(
            *inside, *(PROGRAM, "shim", "upgrade", "--state-dir", str(init.state_dir)), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(upgrade.communicate(), DEADLINE_S)
        assert (upgrade.returncode, b"is upgraded" in said) == (0, True), said
        seen = (await init.get(counter))["output"]["lines"]
        await init.wait_for_lines(counter, seen + 20)
    assert init.daemon_pid == daemon
    os.kill(daemon, signal.SIGKILL)
    await init.comes_up()
    await init.hang_up()
    init.signal("SIGTERM")
    assert await init.ends() == 0
    assert left_over(init.state_dir) == []
    assert init.sql("SELECT signal FROM processes") == [(signal.SIGTERM,)]
    lines = [line for (line,) in init.sql("SELECT line FROM output_lines ORDER BY seq")]
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


async def test_down_by_hand_ends_the_init(init: Init) -> None:
    await init.start()
    polite = await init.sh(POLITE)
    await anext(init.follow(polite))
    await init.hang_up()
    inside = ["nsenter", "--pid", "--mount", "--target", str(init.init_pid)] if init.is_pid_1 else []
    down = await asyncio.create_subprocess_exec(
        *inside,
        *(PROGRAM, "shutdown", "--state-dir", str(init.state_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(down.communicate(), DEADLINE_S)
    assert (down.returncode, said) == (0, b"1 running process ended; shim and daemon are down\n")
    assert await init.ends() == 0
    assert left_over(init.state_dir) == []
    assert init.sql("SELECT exit_code FROM processes") == [(5,)]


async def test_signals_that_come_early_are_not_lost(init: Init) -> None:
    """PID 1 does not notice a signal for which it has no handler yet."""
    await init.launch(PROGRAM, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(init.state_dir))
    assert init.process is not None

    def shim() -> int | None:
        assert init.process is not None
        parent = init.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in map(int, children if init.is_pid_1 else [str(parent)]):
            if b"outlast.shim" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    os.kill(await eventually(shim), signal.SIGTERM)
    assert await init.ends() == 0
    assert "SIGTERM: ending everything" in init.log


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ([PROGRAM, "serve", "--listen", "nonsense"], 1, "'nonsense' is not HOST:PORT"),
        ([PROGRAM, "serve", "--config", "/no/such/file"], 1, "/no/such/file cannot be read"),
        ([PROGRAM, "serve", "--nonsense"], 2, "No such option"),
        (["/no/such/program"], 127, "cannot run /no/such/program: No such file or directory"),
        (["sh", "-c", "echo of its own >&2; exit 42"], 42, "of its own"),
    ],
    ids=lambda value: " ".join(value)[-20:] if isinstance(value, list) else None,
)
async def test_a_daemon_that_never_comes_up_ends_the_init(init: Init, command: list[str], code: int, says: str) -> None:
    await init.launch(*command, flags=["--state-dir", str(init.state_dir)])
    assert await init.ends() == code
    assert says in init.log
    assert "Traceback" not in init.log
    assert left_over(init.state_dir) == []


async def test_a_daemon_that_does_not_come_up_again_is_tried_once_a_second(init: Init, tmp_path: Path) -> None:
    (tmp_path / "serve.sh").write_text(COMES_UP_ONCE)
    await init.launch("sh", "./serve.sh", flags=["--state-dir", str(init.state_dir)], cwd=tmp_path)
    await init.comes_up()
    process = await init.sh(POLITE)
    await anext(init.follow(process))
    await init.hang_up()
    os.kill(init.daemon_pid, signal.SIGKILL)

    def starts() -> list[float]:
        return [float(line) for line in (tmp_path / "starts").read_text().split()]

    await eventually(lambda: len(starts()) >= 5)
    again = starts()[1:5]
    assert again[-1] - again[0] > 2  # three pauses of a second, less what the first of these starts was late
    outer = init.outer(process["pid"])
    assert outer is not None
    assert is_running(outer)
    os.kill(init.init_pid, signal.SIGTERM)  # also without a daemon
    assert await init.ends() == 0
    assert init.sql("SELECT exit_code FROM processes") == [(5,)]


async def test_an_init_kills_all_processes_if_down_fails(init: Init, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("durable = false\n")
    await init.start("--config", str(config))
    process = await init.sh("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    await anext(init.follow(process))
    config.write_text("nonsense")  # `outlast shutdown` will refuse it
    os.kill(init.init_pid, signal.SIGTERM)
    assert await init.ends() == 1
    assert "`outlast shutdown` has failed: all processes are killed" in init.log
    assert left_over(init.state_dir) == []
    config.write_text("")
    await _serve_once(init.state_dir)
    assert init.sql("SELECT reason FROM processes") == [("lost",)]


async def _serve_once(state_dir: Path) -> None:
    daemon = Daemon(state_dir)
    await daemon.start()
    await daemon.end_everything()


async def test_the_limit_of_open_files_is_not_raised(init: Init, tmp_path: Path) -> None:
    """The shim raises its own limit on open files; neither daemon nor processes get that one."""
    init.before = ["sh", "-c", 'ulimit -Sn 512; exec "$@"', "sh"]
    (tmp_path / "serve.sh").write_text(f"ulimit -Sn > limit\nexec {PROGRAM} serve --listen 127.0.0.1:0\n")
    await init.launch("sh", "./serve.sh", flags=["--state-dir", str(init.state_dir)], cwd=tmp_path)
    await init.comes_up()
    assert (tmp_path / "limit").read_text() == "512\n"
    process = await init.sh("ulimit -Sn")
    await init.ended(process)
    assert await init.lines(process) == ["512"]


async def test_a_folder_has_one_init(init: Init) -> None:
    await init.start()
    flags = ["--state-dir", str(init.state_dir)]
    code, output = await outlast("serve", "--listen", "127.0.0.1:0", *flags)
    assert (code, re.sub(r"\d+", "N", output.partition(" serves")[0])) == (1, "Error: another daemon (pid N)")
    code, output = await outlast("init", "--", PROGRAM, "serve", *flags)
    assert code == 1
    assert f"another shim runs for {init.state_dir}" in output
    assert await init.call("GET", "/health", 200) == {"healthy": True}


async def test_a_daemon_started_by_hand_is_left_alone(init: Init) -> None:
    """While somebody else has the lock, no other daemon is started; afterwards one is."""
    await init.start()
    os.kill(init.init_pid, signal.SIGSTOP)
    kept = init.daemon_pid
    os.kill(kept, signal.SIGKILL)
    await eventually(lambda: lock.holder(init.state_dir / DAEMON_LOCK_NAME) is None)
    by_hand = Daemon(init.state_dir)
    starting = asyncio.create_task(by_hand.start())
    await eventually(lambda: lock.holder(init.state_dir / DAEMON_LOCK_NAME) is not None)
    os.kill(init.init_pid, signal.SIGCONT)
    await starting
    await eventually(lambda: "it is started again" in init.log)
    process = await by_hand.run("sleep", "1000")
    then = time.monotonic()
    await eventually(lambda: time.monotonic() > then + 1.5)  # long enough to start one too many
    await by_hand.stop()
    await init.comes_up()
    assert (await init.get(process))["status"] == "running"
    assert "another daemon" not in init.log


@pytest.mark.parametrize("flag", ["--state-dir", "--config"])
async def test_a_flag_given_twice_with_two_values_is_refused(state_dir: Path, flag: str) -> None:
    code, output = await outlast("init", flag, str(state_dir), "--", "/usr/bin/outlast", "serve", flag, "/other")
    assert code == 2
    assert f"{flag} is given twice, as {state_dir} and as /other: give it once" in output
