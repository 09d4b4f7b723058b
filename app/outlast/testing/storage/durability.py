"""Conformance tests of durability: what a commit has stored survives the death of its process, and a loss of power."""

import asyncio
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from outlast.model.event import EventFilter, EventType
from outlast.model.output import Position
from outlast.testing.storage import durable_writer
from outlast.testing.storage.durable_writer import ANSWER, BATCHES
from outlast.testing.storage.samples import Output, end_of, new_process
from outlast.testing.storage.suite import StorageSuite, read_lines

_WRITES = "write,writev,pwrite64,pwritev,pwritev2"
_SYNCS = "fsync,fdatasync,syncfs,sync_file_range,msync"
_WRITE = re.compile(rf"\b({_WRITES.replace(',', '|')})\(")
_SYNC = re.compile(rf"\b({_SYNCS.replace(',', '|')})\b|O_D?SYNC")


class DurabilityConformance(StorageSuite):
    """The contract's promise that a commit which has returned is not lost."""

    async def test_a_commit_survives_a_kill_before_its_answer(self, tmp_path: Path) -> None:
        """The next process finds all of it, and a repetition of the batch, whose answer was lost, changes nothing."""
        self._check_persistent()
        code, _, errors = await _run(*self._command(tmp_path, "killed"))
        assert code == -signal.SIGKILL, errors
        expected = [b"%d\n" % number for number in range(1, BATCHES + 1)]
        storage = self.make_storage(tmp_path)
        await storage.open()
        try:
            process = await storage.process_by_key("durable")
            assert process is not None
            assert await read_lines(storage, process.handle) == expected
            assert process.run.ending == end_of(process.handle).ending
            last = expected[-1]
            before = sum(map(len, expected[:-1]))
            output = Output(process.handle, Position(last_seq=BATCHES - 1, stdout_end=before))
            await storage.commit([output.chunk(last), end_of(process.handle)])
            assert await read_lines(storage, process.handle) == expected
            events = (await storage.events(0, 9, EventFilter())).events
            assert [event.type for event in events] == [EventType.STARTED, EventType.EXITED]
            again = await storage.commit([new_process()])
            assert min(again.values()) > process.handle
        finally:
            await storage.close()

    async def test_a_commit_is_synced_before_its_answer(self, tmp_path: Path) -> None:
        """A store that writes files asks the kernel to bring them to the disk. Needs strace."""
        self._check_persistent()
        if not self.durable:
            pytest.skip("commits need not survive a loss of power")
        strace = shutil.which("strace")
        if strace is None:
            pytest.skip("needs strace")
        log = tmp_path / "trace"
        folder = tmp_path / "store"
        folder.mkdir()
        command = [strace, "-f", "-y", f"--trace=openat,{_WRITES},{_SYNCS}", f"--output={log}"]
        _, answers, errors = await _run(*command, *self._command(folder, "answered"))
        assert answers.count(ANSWER) == BATCHES, errors
        commits = _split_at_answers(log.read_text(errors="replace"))
        writes = [any(_WRITE.search(call) and str(folder) in call for call in calls) for calls in commits]
        if not any(writes):
            pytest.skip("the store writes no files in its folder")
        for number, calls in enumerate(commits, start=1):
            assert any(_SYNC.search(call) and str(folder) in call for call in calls), f"commit {number} syncs nothing"

    def _check_persistent(self) -> None:
        if not self.persistent:
            pytest.skip("the storage is not persistent")

    def _command(self, folder: Path, how: str) -> list[str]:
        suite = type(self)
        return [sys.executable, "-m", durable_writer.__name__, suite.__module__, suite.__qualname__, str(folder), how]


async def _run(*command: str) -> tuple[int | None, str, str]:
    """Run a command with this interpreter's import path. Return its exit code, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def _split_at_answers(trace: str) -> list[list[str]]:
    """Return the calls before each answer."""
    commits: list[list[str]] = [[]]
    for call in trace.splitlines():
        if f'"{ANSWER} ' in call:
            commits.append([])
        else:
            commits[-1].append(call)
    return commits[:-1]
