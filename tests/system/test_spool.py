"""Output that processes print while no daemon is there: kept in memory, then on disk, whole, with its times."""

import asyncio
import contextlib
import functools
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.shim.state.buffer import READ_BYTES
from outlast.shim.watch.output import MEMORY_PER_PROCESS_BYTES
from tests.support.daemon import Daemon, is_running, shim_pid, wait_for_another_shim
from tests.support.disk import mounted
from tests.support.waiting import eventually

MIB = 1 << 20
LINE = "b'%011d ' % i + b'x' * 87 + b'\\n'"  # 100 bytes
WAIT = "import os, sys\nsys.stdin.readline()\n"
# Two shapes of the same bytes: in large pieces, and a call of write(2) for each line.
IN_LINES = WAIT + f"for i in range(int(sys.argv[1]) // 100):\n    os.write(1, {LINE})"
IN_PIECES = (
    WAIT + f"for n in range(int(sys.argv[1]) // 100000):\n"
    f"    os.write(1, b''.join({LINE} for i in range(n * 1000, n * 1000 + 1000)))"
)
ON_BOTH = WAIT + f"for i in range(int(sys.argv[1]) // 200):\n    os.write(1, {LINE})\n    os.write(2, {LINE})"


@functools.lru_cache(maxsize=1)
def lines(size: int) -> bytes:
    return b"".join(b"%011d %s\n" % (i, b"x" * 87) for i in range(size // 100))


@pytest.fixture
async def serve(state_dir: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Daemon]]:
    """Make a daemon with settings; the end of the test ends everything."""
    made: list[Daemon] = []

    def make(folder: Path = state_dir, **settings: int | str) -> Daemon:
        config = tmp_path / "settings.toml"
        config.write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()))
        made.append(Daemon(folder, OUTLAST_CONFIG=str(config)))
        return made[-1]

    yield make
    for daemon in made:
        await daemon.end_everything()


def go(process: dict[str, Any]) -> None:
    """Let a process begin that waits for a line: there is no daemon to write it."""
    Path(f"/proc/{process['pid']}/fd/0").write_text("\n")


async def gone(process: dict[str, Any]) -> None:
    await eventually(lambda: not is_running(process["pid"]), deadline_s=60)


def is_blocked(process: dict[str, Any]) -> bool:
    return "pipe_write" in Path(f"/proc/{process['pid']}/wchan").read_text()


def spool(state_dir: Path) -> dict[str, os.stat_result]:
    """The spool files there are."""
    try:
        return {path.name: path.stat() for path in (state_dir / "spool").iterdir()}
    except FileNotFoundError:
        return {}


def spool_bytes(state_dir: Path) -> int:
    return sum(status.st_size for status in spool(state_dir).values())


def open_files(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield str(path.readlink())
        except FileNotFoundError:
            continue


def holds_spool(pid: int) -> bool:
    return any("/spool/" in name for name in open_files(pid))


async def nothing_is_left_of_it(daemon: Daemon) -> None:
    """The files are gone, and nobody holds them open: what they took is free."""
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await eventually(lambda: not spool(daemon.state_dir))
    await eventually(lambda: not holds_spool(shim) and not holds_spool(daemon.pid))


async def stored_lines(daemon: Daemon, process: dict[str, Any]) -> int:
    count: int = (await daemon.get(process))["output"]["lines"]
    return count


@pytest.mark.parametrize(
    "program", [IN_PIECES, *(pytest.param(program, marks=pytest.mark.long) for program in (IN_LINES, ON_BOTH))]
)
async def test_64_mib_are_buffered_without_a_daemon(daemon: Daemon, program: str) -> None:
    size = 67_200_000
    assert size >= 64 * MIB
    process = await daemon.python(program, str(size), stdin_mode="pipe")
    await daemon.kill()
    go(process)
    await gone(process)  # so it never was held up for good
    files = spool(daemon.state_dir)
    assert files
    assert {stat.S_IMODE(status.st_mode) for status in files.values()} == {0o600}
    assert stat.S_IMODE((daemon.state_dir / "spool").stat().st_mode) == 0o700
    # The room is 64 MiB; the little that is written beyond it may wait in the pipes.
    await eventually(lambda: spool_bytes(daemon.state_dir) >= 64 * MIB - MEMORY_PER_PROCESS_BYTES - READ_BYTES)
    assert spool_bytes(daemon.state_dir) <= size - MEMORY_PER_PROCESS_BYTES
    await daemon.start()
    assert (await daemon.ended(process))["output"]["bytes"] == size
    if program is ON_BOTH:
        assert await daemon.raw(process, "stdout") == await daemon.raw(process, "stderr") == lines(size // 2)
    else:
        assert await daemon.raw(process, "stdout") == lines(size)
    await nothing_is_left_of_it(daemon)


async def test_a_process_waits_when_its_spool_is_full(serve: Callable[..., Daemon]) -> None:
    daemon = serve(buffer_limit_bytes=8 * MIB)
    await daemon.start()
    size = 16_000_000
    process = await daemon.python(IN_PIECES, str(size), stdin_mode="pipe")
    await daemon.kill()
    go(process)
    await eventually(lambda: is_blocked(process) and spool_bytes(daemon.state_dir) >= 4 * MIB - READ_BYTES)
    assert spool_bytes(daemon.state_dir) <= 4 * MIB + READ_BYTES
    await daemon.start()
    await daemon.ended(process)
    assert await daemon.raw(process) == lines(size)
    await nothing_is_left_of_it(daemon)


async def test_files_are_removed_while_their_process_runs(daemon: Daemon) -> None:
    program = IN_PIECES + "\nsys.stdin.readline()\nprint('more')"
    process = await daemon.python(program, "16000000", stdin_mode="pipe")
    await daemon.kill()
    go(process)
    await eventually(lambda: spool_bytes(daemon.state_dir) >= 16_000_000 - MEMORY_PER_PROCESS_BYTES - READ_BYTES)
    await daemon.start()
    await nothing_is_left_of_it(daemon)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await daemon.ended(process)
    assert await daemon.raw(process) == lines(16_000_000) + b"more\n"


async def test_the_next_daemons_are_killed_while_they_take_over(daemon: Daemon) -> None:
    size = 60_000_000
    ends = await daemon.python(IN_PIECES, str(size), stdin_mode="pipe")
    goes_on = await daemon.python(IN_PIECES + "\nsys.stdin.readline()\nprint('more')", str(size), stdin_mode="pipe")
    await daemon.kill()
    go(ends)
    go(goes_on)
    await gone(ends)
    await eventually(lambda: spool_bytes(daemon.state_dir) >= 2 * (size - MEMORY_PER_PROCESS_BYTES - READ_BYTES))
    in_the_middle = 0
    for _ in range(4):
        await daemon.start()
        before = await stored_lines(daemon, ends)

        async def further(before: int = before) -> bool:  # or all of it: a busy machine may have been late to look
            return await stored_lines(daemon, ends) > min(before, size // 100 - 1)

        await eventually(further)
        await daemon.kill()
        in_the_middle += bool(spool(daemon.state_dir))
    assert in_the_middle, "no kill came in the middle"
    await daemon.start()
    await daemon.call("POST", f"/processes/{goes_on['id']}/stdin", 204, data=b"\n")
    for process, last in ((ends, b""), (goes_on, b"more\n")):
        assert (await daemon.ended(process))["exit_code"] == 0
        assert await daemon.raw(process) == lines(size) + last
    await nothing_is_left_of_it(daemon)


async def test_the_shim_is_killed_while_a_daemon_takes_over(daemon: Daemon) -> None:
    """The daemon holds the files by then: pipes that have ended, ends of processes and spool files go on."""
    size = 60_000_000
    ends = await daemon.python(IN_PIECES + "\nsys.exit(3)", str(size), stdin_mode="pipe")
    closes = await daemon.python(
        IN_PIECES
        + "\nos.close(1)\nos.write(2, b'closed\\n')\nsys.stdin.readline()\nos.write(2, b'more\\n')\nos._exit(4)",
        str(size),
        stdin_mode="pipe",
    )
    await daemon.kill()
    go(ends)
    go(closes)
    await gone(ends)
    await eventually(lambda: any(name.startswith(f"{closes['id']}.2") for name in spool(daemon.state_dir)))
    await daemon.start()

    async def begun() -> bool:
        return await stored_lines(daemon, ends) > 0 and await stored_lines(daemon, closes) > 0

    await eventually(begun)
    for _ in range(2):
        shim = shim_pid(daemon.state_dir)
        assert shim is not None
        os.kill(shim, signal.SIGKILL)
        await wait_for_another_shim(daemon, shim)
    assert "was lost" in daemon.log

    async def taken() -> bool:
        async with daemon.session.post(f"{daemon.url}/api/v1/processes/{closes['id']}/stdin", data=b"\n") as response:
            return response.status == 204

    await eventually(taken)
    assert (await asyncio.wait_for(daemon.ended(ends), 60))["exit_code"] == 3
    assert (await asyncio.wait_for(daemon.ended(closes), 60))["exit_code"] == 4
    assert await daemon.raw(ends) == await daemon.raw(closes, "stdout") == lines(size)
    assert await daemon.raw(closes, "stderr") == b"closed\nmore\n"
    await nothing_is_left_of_it(daemon)


async def test_all_processes_together_stay_within_the_bounds(serve: Callable[..., Daemon]) -> None:
    daemon = serve(buffer_memory_bytes=4 * MIB, buffer_spool_bytes=8 * MIB)
    await daemon.start()
    size = 13_000_000  # more than the bounds: none can end before the others have begun
    processes = [await daemon.python(IN_PIECES, str(size), stdin_mode="pipe") for _ in range(4)]
    await daemon.kill()
    for process in processes:
        go(process)
    await eventually(lambda: all(is_blocked(process) for process in processes))
    await eventually(lambda: spool_bytes(daemon.state_dir) >= 8 * MIB)
    assert spool_bytes(daemon.state_dir) <= 8 * MIB + len(processes) * READ_BYTES
    await daemon.start()
    for process in processes:
        await daemon.ended(process)
        assert await daemon.raw(process) == lines(size)
    await nothing_is_left_of_it(daemon)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 12) as disk:
        yield disk.path


async def test_a_full_disk_delays_the_spool(small_disk: Path, serve: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = serve(small_disk / "state", storage=f"sqlite:///{tmp_path}/outlast.db")
    await daemon.start()
    size = 12_000_000
    process = await daemon.python(IN_PIECES, str(size), stdin_mode="pipe")
    await daemon.kill()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(9 * MIB))
    go(process)
    await eventually(lambda: is_blocked(process) and spool_bytes(daemon.state_dir) > 2 * MIB)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "more").write_bytes(bytes(MIB))
    (small_disk / "more").unlink()
    ballast.unlink()
    await gone(process)
    assert spool_bytes(daemon.state_dir) > 4 * MIB, "more than the full disk had room for"
    await daemon.start()
    await daemon.ended(process)
    assert await daemon.raw(process) == lines(size)
    await nothing_is_left_of_it(daemon)


@pytest.mark.long
async def test_lines_have_the_times_of_their_reading(daemon: Daemon) -> None:
    """Lines that are written a second apart have times a second apart, in memory or on disk, and none in the future."""
    program = (
        "import os, sys, time\nsys.stdin.readline()\nfor i in range(4):\n"
        "    os.write(1, b'out %d\\n' % time.time_ns())\n    time.sleep(1)\n"
        "    os.write(2, b'err %d\\n' % time.time_ns())\n    time.sleep(1)\n"
        "    if i == 1: os.write(1, (b'x' * 999 + b'\\n') * 6000)"
    )
    process = await daemon.python(program, stdin_mode="pipe")
    await daemon.kill()
    go(process)
    await gone(process)
    assert spool(daemon.state_dir)
    await daemon.start()
    events = [event.data for event in await daemon.drained(process) if event.kind == "output"]
    stamped = [(e["line"].split(), e["timestamp"]) for e in events if not e["line"].startswith("x")]
    assert [words[0] for words, _ in stamped] == ["out", "err"] * 4
    for words, timestamp in stamped:
        assert 0 <= timestamp - int(words[1]) // 10**6 < 990, "each is nearer to its own time than to any other line's"
    assert [e["timestamp"] for e in events] == sorted(e["timestamp"] for e in events)


def output_files(pid: int) -> Iterator[os.stat_result]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if "memfd:outlast-output" in str(path.readlink()):
                yield path.stat()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("daemon_is_there", [True, False])
async def test_memory_is_released(daemon: Daemon, daemon_is_there: bool) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    program = ON_BOTH + "\nsys.stdin.readline()"
    process = await daemon.python(program, "60000000", stdin_mode="pipe")
    before = resident_bytes(shim)
    if not daemon_is_there:
        await daemon.kill()
    go(process)
    if not daemon_is_there:
        await eventually(lambda: spool_bytes(daemon.state_dir) > 50_000_000, deadline_s=60)
        assert sum(status.st_blocks for status in output_files(shim)) * 512 >= MEMORY_PER_PROCESS_BYTES
        assert resident_bytes(shim) - before < 24 * MIB
        await daemon.start()

    async def all_stored() -> bool:
        return bool((await daemon.get(process))["output"]["bytes"] == 60_000_000)

    await eventually(all_stored, deadline_s=60)
    await eventually(lambda: sum(status.st_blocks for status in output_files(shim)) * 512 <= 2 * MIB)
    assert resident_bytes(shim) - before < 24 * MIB
    assert len(list(output_files(shim))) == 2


async def test_descriptors_are_closed_again(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None

    def counts() -> tuple[int, int]:
        # A connection to the store opens the log at its first read, which may come late, and keeps it.
        kept = [name for name in open_files(daemon.pid) if not name.startswith("socket:") and not name.endswith("-wal")]
        return len(list(open_files(shim))), len(kept)

    warm = await daemon.sh("echo warm")
    await daemon.ended(warm)
    await eventually(lambda: not list(output_files(shim)))
    before = counts()
    for _ in range(10):
        batch = [
            daemon.sh("echo out; echo err >&2; exec 1>&-; exit $((RANDOM % 3))", stdin_mode="pipe") for _ in range(20)
        ]
        for process in await asyncio.gather(*batch):
            await daemon.ended(process)
    await eventually(lambda: all(now <= then for now, then in zip(counts(), before, strict=True)))


async def test_the_spool_of_a_dead_shim_is_removed(daemon: Daemon) -> None:
    process = await daemon.python(IN_PIECES, "16000000", stdin_mode="pipe")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    go(process)
    await eventually(lambda: bool(spool(daemon.state_dir)))
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    assert spool(daemon.state_dir)
    await daemon.start()
    assert not spool(daemon.state_dir)
    assert (await daemon.get(process))["reason"] == "lost"
