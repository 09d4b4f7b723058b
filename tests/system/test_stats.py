"""Resources that a process and everything it started take, through HTTP."""

from pathlib import Path
from typing import Any

from outlast.model.clock import now_ms
from tests.support.daemon import Daemon
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import eventually

MIB = 1 << 20

# Three processes that stay: the leader with 64 MiB and 4 threads more, its child with 32 MiB and 20 files, and a
# grandchild in a session of its own whose parent has ended. Before that: a child that burns half a second and ends.
TREE = """
import os, threading, time
def sleep():
    time.sleep(1000)
def burn():
    while sum(os.times()[:2]) < 0.5: pass
burner = os.fork()
if burner == 0:
    burn()
    os._exit(0)
os.waitpid(burner, 0)
if os.fork() == 0:
    block = bytearray(os.urandom(1 << 20) * 32)
    files = [open("/dev/null") for _ in range(20)]
    print("child", flush=True); sleep()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("grandchild", flush=True); sleep()
    os._exit(0)
os.wait()
block = bytearray(os.urandom(1 << 20) * 64)
for _ in range(4):
    threading.Thread(target=sleep, daemon=True).start()
print("leader", flush=True)
os.read(0, 1)
"""


async def tree(daemon: Daemon, **fields: Any) -> dict[str, Any]:
    process = await daemon.python(TREE, stdin_mode="pipe", **fields)
    await eventually(lambda: _has_begun(daemon, process), "three lines")
    return process


async def _has_begun(daemon: Daemon, process: dict[str, Any]) -> bool:
    lines = await daemon.lines(process)
    return sorted(lines) == sorted(["leader", "child", "grandchild"] * process["run"])


async def stats(daemon: Daemon, process: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.call("GET", f"/processes/{process['id']}/stats{query}", 200)
    assert (answer["id"], answer["pid"], answer["run"]) == (process["id"], process["pid"], process["run"])
    return answer


def cpu_ms(figures: dict[str, Any]) -> int:
    total: int = figures["cpu"]["user_ms"] + figures["cpu"]["system_ms"]
    return total


def check_tree(figures: dict[str, Any]) -> None:
    """Bounds from what the program does: an interpreter has 3 files and 1 thread, and some 5 to 30 MiB."""
    assert figures["processes"] == 3
    assert figures["threads"] == 3 + 4
    assert 3 * 3 + 20 <= figures["open_files"] <= 3 * 3 + 20 + 6
    assert cpu_ms(figures) >= 450  # the burner's, which has ended
    rss, pss = figures["memory"]["rss_bytes"], figures["memory"]["pss_bytes"]
    assert 96 * MIB < rss < 300 * MIB
    assert pss is None or 96 * MIB < pss < rss


async def history_of(daemon: Daemon, process: dict[str, Any], count: int, since_ms: int = 0) -> dict[str, Any]:
    """Wait for `count` samples since a time, and return the answer with these alone."""

    async def look() -> dict[str, Any] | None:
        answer = await stats(daemon, process)
        history = [sample for sample in answer["history"] if sample["sampled_at"] >= since_ms]
        return {**answer, "history": history} if len(history) >= count else None

    return await eventually(look, f"{count} samples")


async def test_a_tree_is_counted_whole(daemon: Daemon) -> None:
    answer = await stats(daemon, await tree(daemon))
    check_tree(answer["current"])
    assert answer["current"]["memory"]["pss_bytes"] > 96 * MIB
    assert answer["current"]["cpu"]["percent"] > 0
    check_tree(answer["peak"])


async def test_history_is_in_order(daemon: Daemon) -> None:
    process = await tree(daemon)
    answer = await history_of(daemon, process, 2, since_ms=now_ms())
    first, second = answer["history"][:2]
    check_tree(second)
    assert process["started_at"] < first["sampled_at"] < second["sampled_at"] <= answer["current"]["sampled_at"]
    assert cpu_ms(first) <= cpu_ms(second) <= cpu_ms(answer["current"])


async def test_figures_outlive_the_daemon(daemon: Daemon) -> None:
    """An orderly end stores what is known, -9 leaves the next daemon what was stored."""
    process = await tree(daemon)
    before = (await history_of(daemon, process, 2))["history"][:2]
    await daemon.stop()
    await daemon.start()
    again = await stats(daemon, process)
    assert again["history"][:2] == before
    check_tree(again["current"])
    await daemon.kill()
    await daemon.start()
    again = await history_of(daemon, process, len(again["history"]) + 1)
    assert again["history"][:2] == before
    check_tree(again["peak"])


async def test_peaks_outlive_the_process(daemon: Daemon) -> None:
    process = await tree(daemon)
    before = await history_of(daemon, process, 2)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"x")
    await eventually(lambda: _ended(daemon, process), "its end")
    ended = await stats(daemon, process)
    assert ended["current"] is None
    check_tree(ended["peak"])
    assert cpu_ms(ended["peak"]) >= cpu_ms(before["current"])
    assert ended["history"][: len(before["history"])] == before["history"]
    await daemon.kill()
    await daemon.start()
    assert await stats(daemon, process) == ended
    assert await stats(daemon, process, "?run=1") == ended
    row = daemon.sql(
        "SELECT peak_processes, peak_threads, peak_rss_bytes FROM runs WHERE process_id = ?", process["id"]
    )
    peak = ended["peak"]
    assert row == [(peak["processes"], peak["threads"], peak["memory"]["rss_bytes"])]
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)


async def _ended(daemon: Daemon, process: dict[str, Any]) -> bool:
    return bool((await daemon.get(process))["status"] != "running")


async def test_a_tree_without_a_group_is_counted_whole(state_dir: Path) -> None:
    daemon = patched_daemon(state_dir, NO_CGROUPS)
    try:
        await daemon.start()
        process = await tree(daemon, name="tree")
        assert "outlast-" not in Path(f"/proc/{process['pid']}/cgroup").read_text()
        answer = await history_of(daemon, process, 1)
        check_tree(answer["current"])
        check_tree(answer["peak"])
        assert answer["history"][0]["memory"]["pss_bytes"] is not None
        # A later run goes by another name in the shim, and in its processes' environment.
        process = await daemon.call("POST", f"/processes/{process['id']}/restart", 200)
        await eventually(lambda: _has_begun(daemon, process), "three lines more")
        answer = await history_of(daemon, process, 1, since_ms=now_ms())
        check_tree(answer["current"])
        check_tree(answer["history"][0])
    finally:
        await daemon.end_everything()


async def test_unknown_statistics_are_an_error(daemon: Daemon) -> None:
    short = await daemon.ended(await daemon.sh("exit 3"))
    answer = await stats(daemon, short)
    assert answer["current"] is None
    assert answer["history"] == []
    assert answer["peak"]["processes"] is None
    path = f"/processes/{short['id']}/stats"
    error = await daemon.call("GET", f"{path}?run=2", 404)
    assert error["code"] == "NOT_FOUND"
    for query, field in (("?run=0", "run"), ("?run=x", "run"), ("?runs=1", "runs")):
        error = await daemon.call("GET", path + query, 400)
        assert error["code"] == "INVALID_REQUEST"
        assert field in error["error"]
    await daemon.call("GET", "/processes/99999999/stats", 404)
    await daemon.call("DELETE", f"/processes/{short['id']}?purge=true", 204)
    await daemon.call("GET", path, 404)


async def test_processor_time_is_right_under_load(daemon: Daemon) -> None:
    busy = await daemon.python("while True: pass")
    answer = await history_of(daemon, busy, 1)
    assert answer["current"]["cpu"]["percent"] > 5  # other work may have most of the machine
    assert answer["current"]["cpu"]["percent"] < 130
    assert answer["current"]["cpu"]["user_ms"] > answer["current"]["cpu"]["system_ms"]
    await daemon.call("DELETE", f"/processes/{busy['id']}", 204)
    ended = await stats(daemon, busy)
    assert cpu_ms(ended["peak"]) >= cpu_ms(answer["current"])
