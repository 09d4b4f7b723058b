"""Which bytes of a program's files a loss of power may take: what it wrote and had not synced, by its system calls."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.required import give_up
from tests.support.waiting import DEADLINE_S

_WRITE = re.compile(r"\d+ +pwrite64\(\d+<(?P<path>[^>]+)>, .*, (?P<size>\d+), (?P<start>\d+)(?:\)| <unfinished)")
_SYNC = re.compile(r"(?P<thread>\d+) +f(?:data)?sync\(\d+<(?P<path>[^>]+)>(?P<done>\) += 0)?")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. f(?:data)?sync resumed>\) += 0")

Range = tuple[int, int]


class Traced:
    """A Python module that runs under strace. Where there is none, the test is skipped (in CI it fails).

    `sync_us`: how long each sync waits before it begins, as on a slow disk.
    """

    def __init__(self, log: Path, *arguments: str, sync_us: int = 0) -> None:
        self._log = log
        command = ["strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path", "--string-limit=0"]
        command += ["--trace=write,pwrite64,fsync,fdatasync", f"--output={log}"]
        if sync_us:
            command += [f"--inject=fdatasync:delay_enter={sync_us}"]
        command += [sys.executable, "-m", *arguments]
        root = Path(__file__).parents[2]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        except FileNotFoundError:
            give_up("needs strace")
        assert self._process.stdout is not None
        self.output = self._process.stdout

    def kill_after(self, delay_s: float) -> list[str]:
        """SIGKILL the program in a moment, and return what it still said."""
        with pytest.raises(subprocess.TimeoutExpired):
            self._process.wait(delay_s)  # so that the kill falls anywhere
        return self._kill()

    def kill_at(self, call: str) -> list[str]:
        """SIGKILL the program when it makes a call whose line contains `call`, after it has said something."""
        said = [self.output.readline()]
        deadline = time.monotonic() + DEADLINE_S
        with self._log.open() as log:
            log.seek(0, os.SEEK_END)
            tail = ""
            while call not in tail:
                assert time.monotonic() < deadline
                tail = tail[-1000:] + log.read()
        return said + self._kill()

    def _kill(self) -> list[str]:
        strace = self._process.pid
        (child,) = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        rest = [line for line in self.output if line.endswith("\n")]
        self._process.wait(DEADLINE_S)
        self.output.close()
        return rest

    def calls(self) -> list[str]:
        """Return the lines of the trace."""
        return self._log.read_text().splitlines()

    def unsynced(self) -> dict[str, list[Range]]:
        """Return, by file, where it was written to after its last sync had begun: start and end, in order."""
        written: dict[str, list[Range]] = defaultdict(list)
        syncing: dict[str, tuple[str, int]] = {}
        for line in self.calls():
            if found := _WRITE.match(line):
                start = int(found["start"])
                written[found["path"]].append((start, start + int(found["size"])))
            elif found := _SYNC.match(line):
                path = found["path"]
                if found["done"]:
                    written[path].clear()
                else:
                    syncing[found["thread"]] = path, len(written[path])
            elif found := _RESUMED.match(line):
                path, count = syncing.pop(found["thread"])
                del written[path][:count]
        return written
