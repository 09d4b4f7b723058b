"""Running the command against a test's daemon."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.daemon import OUTLAST, QUICK, Daemon
from tests.support.waiting import DEADLINE_S
from tests.support.warm import ForkedCommand, can_fork

BLAND = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm", "LANG": "C.UTF-8", "PAGER": "", "TZ": "UTC"}

_COMMAND_DEADLINE_S = DEADLINE_S + 10
_OF_NEW_INTERPRETERS = ("PYTHON", "LC_", "LANG")
"""Variables that take effect when an interpreter starts, which a fork does not repeat."""


@dataclass(frozen=True)
class Said:
    """Output of a command, and its exit code."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def environment(daemon: Daemon, **more: str) -> dict[str, str]:
    """Environment in which the command finds a daemon."""
    return {
        **os.environ,
        **QUICK,
        **BLAND,
        "OUTLAST_URL": daemon.url,
        "OUTLAST_STATE_DIR": str(daemon.state_dir),
        **more,
    }


async def outlast(daemon: Daemon, *args: str, input: bytes = b"", **more: str) -> Said:  # noqa: A002 - as subprocess has it
    """Run a command to its end."""
    if can_fork({}) and not any(name.startswith(_OF_NEW_INTERPRETERS) for name in more):
        return await _forked(environment(daemon, **more), args, input)
    async with started(daemon, *args, **more) as process:
        out, err = await asyncio.wait_for(process.communicate(input), _COMMAND_DEADLINE_S)
    assert process.returncode is not None
    return Said(process.returncode, out, err.decode())


async def _forked(env: dict[str, str], args: tuple[str, ...], given: bytes) -> Said:
    """Run a command in a fork of an interpreter that has the program loaded: imports are most of what it costs."""
    stdin, stdin_end = os.pipe()
    with os.fdopen(stdin_end, "wb", buffering=0) as writer, tempfile.TemporaryFile() as stderr:
        try:
            process = await ForkedCommand.start(args, env, stdin=stdin, stderr=stderr.fileno())
        finally:
            os.close(stdin)
        try:
            async with asyncio.timeout(_COMMAND_DEADLINE_S):
                with contextlib.suppress(BrokenPipeError):
                    await asyncio.to_thread(writer.write, given)
                writer.close()
                out = await process.stdout.read()
                code = await process.wait()
        finally:
            process.kill()
            process.close()
        stderr.seek(0)
        return Said(code, out, stderr.read().decode())


@contextlib.asynccontextmanager
async def started(daemon: Daemon, *args: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command, and end it if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        *OUTLAST,
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(daemon, **more),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def reads(process: asyncio.subprocess.Process, lines: int) -> list[str]:
    """Read lines of a command's standard output."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(lines)]
