"""What Outlast takes with nothing to do, beside supervisord: memory, and with idle processes memory and time."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import OURS, Figures, Measure, Row
from bench.serving import outlast
from bench.supervisord import supervisord
from harness.proc import cpu_s, pss_bytes

_SLEEP_S = 86_400
_STARTED_S = 120.0
_LOOK_AGAIN_S = 0.05
_SUPERVISORD = "supervisord"


def run_outlast(folder: Path, processes: int) -> Figures:
    """Look at all that is ours: when a first request has been answered, with one process, and with idle processes."""
    with outlast(folder / "state") as server:
        server.call("GET", "/processes?limit=10")
        idle, anonymous = _bytes(server.pids, "Pss"), _bytes(server.pids, "Pss_Anon")
        server.run(["sleep", str(_SLEEP_S)])
        one = _bytes(server.pids, "Pss")
        for _ in range(processes - 1):
            server.run(["sleep", str(_SLEEP_S)])
        found = _with_processes(server.pids, anonymous, processes, server.shim_pid)
        return {"idle MiB": idle / (1 << 20), "with one process MiB": one / (1 << 20), **found}


def run_supervisord(folder: Path, processes: int) -> Figures:
    """Look at supervisord: with one program that is not started, and at another one with idle processes."""
    script = folder / "sleep.sh"
    script.write_text(f"exec sleep {_SLEEP_S}\n", encoding="utf-8")
    with supervisord(folder, script) as server:
        idle, anonymous = _bytes([server.pid], "Pss"), _bytes([server.pid], "Pss_Anon")
        server.start_program()
        one = _bytes([server.pid], "Pss")
    with supervisord(folder, script, copies=processes) as server:
        found = _with_processes([server.pid], anonymous, processes, server.pid)
        return {"idle MiB": idle / (1 << 20), "with one process MiB": one / (1 << 20), **found}


def _with_processes(pids: Sequence[int], before_bytes: int, processes: int, parent: int) -> Figures:
    """Look when as many run. `before_bytes`: of anonymous memory; files' share depends on who else has them open."""
    deadline = time.monotonic() + _STARTED_S
    while (running := _children(parent)) < processes:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{running} of {processes} processes run")
        time.sleep(_LOOK_AGAIN_S)
    watched_s = min(max(1.1, processes / 100), 10.0)
    before_s = sum(map(cpu_s, pids))
    time.sleep(watched_s)
    return {
        "KiB a process": (_bytes(pids, "Pss_Anon") - before_bytes) / processes / (1 << 10),
        "CPU ms/s": (sum(map(cpu_s, pids)) - before_s) / watched_s * 1000,
    }


def _children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split())


def _bytes(pids: Sequence[int], kind: str) -> int:
    return sum(pss_bytes(pid, kind) for pid in pids)


MEASURE = Measure(
    name="memory",
    title="nothing to do, then {size} idle processes (`sleep`): memory of daemon and shim, processor time of both",
    contestants={OURS: run_outlast, _SUPERVISORD: run_supervisord},
    rows=(
        Row(figure="idle MiB", yardstick=_SUPERVISORD, at_most=3.0),
        Row(figure="with one process MiB", yardstick=_SUPERVISORD),
        Row(figure="KiB a process", yardstick=None, at_most=40.0),
        Row(figure="KiB a process", yardstick=_SUPERVISORD),
        Row(figure="CPU ms/s", yardstick=_SUPERVISORD),
    ),
    size=1_000,
    smoke_size=20,
    lacks={_SUPERVISORD: "figures of what each process takes: it does not look"},
)
