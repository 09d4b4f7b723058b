"""Content of the golden databases. `python -m tests.storage.golden.history` makes the one of today's schema version.

A file is made once, by the program that has that version, and never again: it stands for what operators have.
"""

import asyncio
import gzip
import tempfile
from pathlib import Path

from outlast.model.output import Stream
from outlast.model.process import ExitStatus, OutputMode, ProcessSpec, Reason, Run, StdinMode
from outlast.storage.base import AddProcess, Change, CompleteOutput, EndRun
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import migrate
from outlast.testing.storage.samples import EPOCH_MS, Output

FOLDER = Path(__file__).parent

IDS = tuple(f"01HRHQKG00{n:016}" for n in range(4))


def processes() -> list[Change]:
    """Four processes: handles 1 to 4."""
    specs = [
        ProcessSpec(
            id=IDS[0],
            command="/usr/bin/python3",
            args=("-c", "é\n\\", ""),
            env_keys=("LANG", "PATH"),
            working_dir="/srv",
            user="1000:1000",
            name="backup",
            tags={"team": "a", "tier": "é"},
        ),
        ProcessSpec(id=IDS[1], command="cat", working_dir="/", stdin_mode=StdinMode.PIPE, tags={"team": "a"}),
        ProcessSpec(id=IDS[2], command="sleep", args=("1000",), working_dir="/tmp", stdout_mode=OutputMode.DISCARD),
        ProcessSpec(id=IDS[3], command="./server", working_dir="/srv", name="server"),
    ]
    return [AddProcess(spec, Run(pid=4000 + n, started_at_ms=EPOCH_MS + n)) for n, spec in enumerate(specs)]


def output() -> list[Change]:
    """Return their output and ends: one with a code, one running, one timed out, one lost with output to come."""
    backup, cat, server = Output(1), Output(2), Output(4)
    return [
        backup.chunk(bytes(range(256)) + b"\r\n\n\xff\xfe\0\n", ts_ms=EPOCH_MS + 10),
        backup.chunk(b"error: no such file\n", Stream.STDERR, ts_ms=EPOCH_MS + 20),
        backup.chunk("half \N{PILE OF POO}".encode(), ts_ms=EPOCH_MS + 5),  # the clock was set back
        EndRun(1, 1, ExitStatus(reason=Reason.EXITED, exit_code=2, ended_at_ms=EPOCH_MS + 30)),
        CompleteOutput(1, 1),
        cat.chunk(b"name? ", ts_ms=EPOCH_MS + 40),
        cat.chunk(b"warning\n", Stream.STDERR, ts_ms=EPOCH_MS + 41),
        EndRun(3, 1, ExitStatus(reason=Reason.TIMED_OUT, signal=9, ended_at_ms=EPOCH_MS + 50)),
        CompleteOutput(3, 1),
        *(server.chunk(b"GET /%d 200\n" % n * 20, Stream(1 + n % 2), ts_ms=EPOCH_MS + 60 + n) for n in range(120)),
        EndRun(4, 1, ExitStatus(reason=Reason.LOST, ended_at_ms=EPOCH_MS + 999)),
    ]


async def make(path: Path) -> None:
    """Make a store with all that."""
    storage = storage_from_url(f"sqlite:///{path}")
    await storage.open()
    await storage.commit(processes())
    await storage.commit(output())
    await storage.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "outlast.db"
        asyncio.run(make(made))
        target = FOLDER / f"version-{len(migrate.migrations())}.db.gz"
        target.write_bytes(gzip.compress(made.read_bytes(), mtime=0))
