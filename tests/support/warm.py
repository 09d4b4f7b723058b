"""Daemons and other commands forked from an interpreter that has the program loaded.

Most of what a command costs is imports. The helper (`warm_helper`) has done them; each command is a fork of the helper.
One helper serves one process that runs tests, and ends with it.
"""

import asyncio
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.failpoints import POINTS, VARIABLE

_ROOT = Path(__file__).parents[2]
STATUS_BYTES = 4
"""Size of an exit code as the helper reports it."""
SHIM_PATCH = "shim_patch"
"""Name of a folder with a `sitecustomize` that changes the shim only."""

_MAX_PID_BYTES = 16


class ForkedCommand:
    """A command that the helper has forked, with the part of `asyncio.subprocess.Process` that tests use.

    Attributes:
        returncode: exit code, negative for a signal; None while the command runs.
    """

    def __init__(
        self,
        pid: int,
        stdout: asyncio.StreamReader,
        codes: asyncio.StreamReader,
        pipes: Sequence[asyncio.BaseTransport],
    ) -> None:
        """`codes`: brings the exit code. `pipes`: closed by `close`."""
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._pipes = pipes
        self._ended = asyncio.create_task(self._note_end(codes))

    @classmethod
    async def start(
        cls, args: Sequence[str], env: Mapping[str, str], *, stdin: int | None = None, stderr: int | None = None
    ) -> "ForkedCommand":
        """Run `outlast ARGS` in a fork of the helper, with stdout, and stderr unless given, to a pipe.

        `stdin`: without one, nothing is to be read.
        """
        stdout, stdout_end = os.pipe()
        status, status_end = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            streams = [nothing if stdin is None else stdin, stdout_end, stdout_end if stderr is None else stderr]
            pid = _helper().fork(args, env, [*streams, status_end])
        finally:
            os.close(nothing)
            os.close(stdout_end)
            os.close(status_end)
        lines, printed = await _reader(stdout)
        codes, died = await _reader(status)
        return cls(pid, lines, codes, (printed, died))

    async def _note_end(self, codes: asyncio.StreamReader) -> None:
        code = await codes.readexactly(STATUS_BYTES)
        self.returncode = int.from_bytes(code, "little", signed=True)

    async def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        await asyncio.shield(self._ended)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal the command, if it runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes."""
        for pipe in self._pipes:
            pipe.close()


async def _reader(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader, transport


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves as a new interpreter does with these additional variables.

    PYTHON variables take effect before imports, which a fork does not repeat; a patch of the shim is for the shim's own
    interpreter. Nor does a fork measure coverage.
    """
    return "coverage" not in sys.modules and all(
        key.startswith("OUTLAST_") or (key == "PYTHONPATH" and Path(value).name == SHIM_PATCH)
        for key, value in environment.items()
    )


class _Helper:
    """The helper of this process, seen from here."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm_helper", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=_ROOT,
                env={**os.environ, VARIABLE: next(iter(POINTS))},
            )
        atexit.register(self._end)

    def fork(self, args: Sequence[str], env: Mapping[str, str], fds: Sequence[int]) -> int:
        """Fork a command, and return its pid. `fds`: its standard streams, and where its exit code is written."""
        request = {"args": list(args), "env": dict(env), "cwd": str(Path.cwd())}
        socket.send_fds(self._sock, [json.dumps(request).encode()], fds)
        pid = self._sock.recv(_MAX_PID_BYTES)
        if not pid:
            raise RuntimeError(f"the helper that forks commands has ended with {self._process.wait()}")
        return int(pid)

    def _end(self) -> None:
        self._sock.close()
        self._process.wait()


@functools.cache
def _helper() -> _Helper:
    return _Helper()
