"""Deletion of old output while commits go on: `python -m bench.retention 10` deletes 10 GiB.

It tells what the deletion costs beside that of a file of the same size, and how much longer commits take meanwhile.
The store is written and deleted below the current folder.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from outlast.model.process import ExitStatus, ProcessSpec, Reason, Run
from outlast.model.retention import Rule
from outlast.storage.base import AddProcess, CompleteOutput, EndRun, PurgeProcess
from outlast.storage.sqlite import SqliteStorage
from outlast.testing.storage.samples import Output

_PROCESSES = 64
_CHUNK_BYTES = 1 << 20
_STEP_PROCESSES = 16
_COMMITS = 1000


async def _add(storage: SqliteStorage, number: int) -> Output:
    spec = ProcessSpec(id=f"{number:026}", command="true", working_dir="/")
    handles = await storage.commit([AddProcess(spec, Run(pid=number + 1, started_at_ms=1))])
    return Output(handles[spec.id])


async def _fill(storage: SqliteStorage, size: int) -> list[int]:
    """Store output that does not compress, of processes that have ended, and return their handles."""
    handles: list[int] = []
    for number in range(_PROCESSES):
        output = await _add(storage, number)
        for _ in range(size // _PROCESSES // _CHUNK_BYTES):
            await storage.commit([output.chunk(os.urandom(_CHUNK_BYTES // 2).hex().encode()[:-1] + b"\n")])
        ending = ExitStatus(reason=Reason.EXITED, exit_code=0, ended_at_ms=2)
        await storage.commit([EndRun(output.handle, 1, ending), CompleteOutput(output.handle, 1)])
        handles.append(output.handle)
    return handles


async def _time_commits(storage: SqliteStorage, output: Output, until: asyncio.Task[None] | None) -> list[float]:
    """Commit a line again and again, for a number of times or until a task is done; return sorted durations."""
    durations: list[float] = []
    while len(durations) < _COMMITS if until is None else not until.done():
        began = time.perf_counter()
        await storage.commit([output.chunk(b"a line\n")])
        durations.append(time.perf_counter() - began)
        await asyncio.sleep(0.001)
    return sorted(durations)


async def _purge(storage: SqliteStorage, handles: list[int]) -> None:
    for start in range(0, len(handles), _STEP_PROCESSES):
        await storage.commit([PurgeProcess(handle, Rule.ENDED) for handle in handles[start : start + _STEP_PROCESSES]])
    await storage.finish_cleanup()


def _remove_file(folder: Path, size: int) -> float:
    """Return the processor time of removing a file of `size` bytes."""
    path = folder / "file"
    with path.open("wb") as file:
        for _ in range(size // _CHUNK_BYTES):
            file.write(os.urandom(_CHUNK_BYTES))
        os.fsync(file.fileno())
    began = time.process_time()
    path.unlink()
    return time.process_time() - began


async def _measure(folder: Path, size: int) -> None:
    storage = SqliteStorage(folder / "outlast.db", durable=False)
    await storage.open()
    handles = await _fill(storage, size)
    await storage.close()
    storage = SqliteStorage(folder / "outlast.db", durable=True)
    await storage.open()
    output = await _add(storage, _PROCESSES)
    full_bytes = storage.path.stat().st_size
    before = await _time_commits(storage, output, None)
    began, cpu = time.perf_counter(), time.process_time()
    purge = asyncio.create_task(_purge(storage, handles))
    during = await _time_commits(storage, output, purge)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    left_bytes = storage.path.stat().st_size
    await storage.close()
    sys.stdout.write(
        f"{full_bytes >> 20} MiB to {left_bytes >> 20} MiB in {took_s:.1f} s, {cpu_s:.2f} s of processor time with "
        f"{len(during)} commits; removing a file: {_remove_file(folder, size):.2f} s\n"
    )
    for name, part in (("median", 0.5), ("p99", 0.99)):
        alone, beside = (times[int(part * (len(times) - 1))] * 1000 for times in (before, during))
        sys.stdout.write(f"{name} of a commit: {alone:.2f} ms alone, {beside:.2f} ms beside: {beside / alone:.2f}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".") as made:
        asyncio.run(_measure(Path(made), int(float(sys.argv[1]) * (1 << 30))))
