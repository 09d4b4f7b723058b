"""A long history, written straight into a store: years of use in minutes.

Each process adds a hundred lines of 96 bytes: fifty of its own, on both streams, and fifty to the output of the first
process, which then holds half of all output, in chunks of 240 KB.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from bench.writers import LINE_BYTES, flood_line
from outlast.model.managed import Desired, ManagedState
from outlast.model.output import Stream
from outlast.model.process import ExitStatus, ProcessSpec, Reason, Run
from outlast.model.ulid import new_ulid
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage import AddProcess, BeginRun, Change, RecordUsage, SetManaged, Storage, storage_from_url
from outlast.testing.storage.samples import EPOCH_MS, Output

LINES_EACH = 100
"""Lines of each process, on average."""

TALKER = "talker"
NIGHTLY = "nightly"
TEAMS = 10
MARK = "begins its work"
"""Text in the first line of each process."""

_BATCH = 1000
_OWN_OUTPUT, _OWN_ERRORS = 40, 10
_APART_MS = 1000
_RAN_MS = 30_000
_PIDS = 30_000
_NIGHTLY_EACH, _NIGHTLY_RUNS = 100, 3
_FAILED_EACH, _KILLED_EACH = 50, 97
_STOPPED = ManagedState(desired=Desired.STOPPED, decided_run=_NIGHTLY_RUNS)
_BLOCK_EACH = 50
_BLOCK = b"".join(flood_line(n) + b"\n" for n in range(_BLOCK_EACH * (LINES_EACH - _OWN_OUTPUT - _OWN_ERRORS)))
_ERRORS = b"".join(flood_line(n) + b"\n" for n in range(_OWN_ERRORS))


def write(database: Path, processes: int) -> None:
    """Create a store with `processes` ended processes."""
    asyncio.run(_write(database, processes))


async def _write(database: Path, processes: int) -> None:
    storage = storage_from_url(f"sqlite:///{database}", durable=False)
    await storage.open()
    try:
        first = _process(0, TALKER)
        talker = Output((await storage.commit([first]))[first.spec.id])
        for number in range(1, processes, _BATCH):
            await _add(storage, talker, range(number, min(number + _BATCH, processes)))
    finally:
        await storage.close()


async def _add(storage: Storage, talker: Output, numbers: range) -> None:
    added = {number: _process(number, NIGHTLY if number % _NIGHTLY_EACH == 0 else None) for number in numbers}
    handles = await storage.commit(list(added.values()))
    changes: list[Change] = []
    for number, process in added.items():
        changes += _life(number, handles[process.spec.id], process)
        if number % _BLOCK_EACH == 0:
            changes.append(talker.chunk(_BLOCK, ts_ms=_started_ms(number)))
    await storage.commit(changes)


def _process(number: int, name: str | None) -> AddProcess:
    started_ms = _started_ms(number)
    spec = ProcessSpec(
        id=new_ulid(started_ms),
        command="/usr/bin/python3",
        args=("-m", "worker", "--job", str(number)),
        env_keys=("HOME", "PATH"),
        working_dir="/srv/work",
        name=name,
        tags={"team": f"team-{number % TEAMS}", "job": str(number)},
    )
    return AddProcess(spec, _run(number, 1))


def _run(number: int, run: int) -> Run:
    started_ms = _started_ms(number) + (run - 1) * _RAN_MS
    reason = Reason.EXITED
    exit_code: int | None = 0
    signal: int | None = None
    if number % _FAILED_EACH == 1:
        exit_code = 1
    if number % _KILLED_EACH == 1:
        reason, exit_code, signal = Reason.SIGNALED, None, 9
    ending = ExitStatus(reason=reason, exit_code=exit_code, signal=signal, ended_at_ms=started_ms + _RAN_MS)
    return Run(
        number=run,
        pid=1000 + (number + run) % _PIDS,
        started_at_ms=started_ms,
        ending=ending,
        output_complete=True,
    )


def _life(number: int, handle: int, process: AddProcess) -> Iterator[Change]:
    """Yield the changes that follow the first start."""
    first_ms = _started_ms(number)
    if process.spec.name is not None:
        for run in range(2, _NIGHTLY_RUNS + 1):
            yield BeginRun(handle, _run(number, run))
        yield SetManaged(handle, _STOPPED)
    sample = UsageSample(first_ms + 1000, 1, 1, 3, 500, 20, 30 << 20, 20 << 20)
    yield RecordUsage(handle, 1, RunUsage(peak=PeakUsage.of(sample), history=(sample,)))
    output = Output(handle)
    said = (b"%08d " % number + MARK.encode()).ljust(LINE_BYTES - 1, b".") + b"\n"
    yield output.chunk(said + _BLOCK[: (_OWN_OUTPUT - 1) * LINE_BYTES], ts_ms=first_ms + 10)
    yield output.chunk(_ERRORS, Stream.STDERR, ts_ms=first_ms + 20)


def _started_ms(number: int) -> int:
    return EPOCH_MS + number * _APART_MS
