"""Asking the program that answers operators' SQL, and ending it when its time is over."""

import asyncio
import json
import sys
from pathlib import Path

import zstandard

from outlast.model.errors import InvalidRequest, Unavailable
from outlast.model.sql import MAX_ANSWER_BYTES, SqlQuery

MOST_AT_ONCE = 2
_PROGRAM = Path(__file__).with_name("runner.py")
_STARTS_S = 5.0  # what it may take to start, on a busy machine, besides its own time


class SqlClient:
    """Answers a few questions at once, each in a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._under_way = 0

    async def ask(self, question: SqlQuery) -> bytes:
        """Answer as `Storage.sql` says."""
        if self._under_way >= MOST_AT_ONCE:
            raise Unavailable(f"{MOST_AT_ONCE} other queries are under way; ask again when one is done")
        self._under_way += 1
        try:
            return await self._ask(question)
        finally:
            self._under_way -= 1

    async def _ask(self, question: SqlQuery) -> bytes:
        asked = json.dumps(
            {
                "path": str(self._path),
                "packages": str(Path(zstandard.__file__).parents[1]),
                "query": question.query,
                "parameters": question.parameters,
                "max_rows": question.max_rows,
                "max_bytes": MAX_ANSWER_BYTES,
                "timeout_s": question.timeout_s,
            }
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(question.timeout_s + _STARTS_S):
                answer, _ = await process.communicate(asked.encode())
        except TimeoutError:
            answer = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not answer:
            raise InvalidRequest(
                f"query took longer than {question.timeout_s:g} s, or more room than there is: ask for less"
            )
        if answer.startswith(b'{"error":'):
            raise InvalidRequest(f"query can't be answered: {json.loads(answer)['error']}")
        return answer
