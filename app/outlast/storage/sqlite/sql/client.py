"""The daemon's side of operators' SQL: a process for each query, killed when its time is over."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from outlast.model.errors import InvalidRequest, Unavailable
from outlast.model.shortage import shortages_told
from outlast.model.sql import MAX_ANSWER_BYTES, SqlQuery
from outlast.storage.sqlite.sql.runner import BEGIN

MAX_RUNNING_QUERIES = 2
_PROGRAM = Path(__file__).with_name("runner.py").read_bytes()  # that of this daemon, also when the file is replaced
_BOOT = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), 'runner.py', 'exec'))"
_START_S = 5.0  # time allowed for the start of the process on a busy machine, before the query begins


class SqlClient:
    """A client that runs a few queries at once, each in a process of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running = 0

    async def run_query(self, query: SqlQuery) -> bytes:
        """Run a query as `Storage.sql` specifies."""
        if self._running >= MAX_RUNNING_QUERIES:
            raise Unavailable(f"{MAX_RUNNING_QUERIES} other queries are running; try again when one of them has ended")
        self._running += 1
        try:
            answer = await self._run_process(query)
        finally:
            self._running -= 1
        if not answer:
            raise InvalidRequest(
                f"query took longer than {query.timeout_s:g} s, or more memory than a query may use: ask for less"
            )
        if answer.startswith(b'{"error":'):
            raise InvalidRequest(f"query cannot be answered: {json.loads(answer)['error']}")
        return answer

    async def _run_process(self, query: SqlQuery) -> bytes:
        """Return the output of the process, or nothing if it was killed.

        Raises:
            Unavailable: the process did not begin with the query.
        """
        request = json.dumps(
            {
                "path": str(self._path),
                "packages": sys.path,
                "query": query.query,
                "parameters": query.parameters,
                "max_rows": query.max_rows,
                "max_bytes": MAX_ANSWER_BYTES,
                "timeout_s": query.timeout_s,
            }
        )
        with shortages_told("start a process for the query"):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, str(len(_PROGRAM))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        try:
            return await _ask(process, _PROGRAM + request.encode(), query.timeout_s)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ask(process: asyncio.subprocess.Process, given: bytes, timeout_s: float) -> bytes:
    """Send program and request, and return the answer. `timeout_s` counts from when the query begins."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("the process has no pipes")
    try:
        async with asyncio.timeout(_START_S):
            with contextlib.suppress(ConnectionError):  # it has ended, which the end of its output tells
                process.stdin.write(given)
                await process.stdin.drain()
            process.stdin.close()
            first = await process.stdout.readline()
    except TimeoutError:
        first = b""
    if not first:
        raise Unavailable(
            "the program that runs SQL queries does not start: the machine is too busy, or the files of Outlast were "
            "changed under the running daemon; try again, then restart the daemon"
        )
    if first != BEGIN:
        return first
    try:
        async with asyncio.timeout(timeout_s):
            return await process.stdout.read()
    except TimeoutError:
        return b""
