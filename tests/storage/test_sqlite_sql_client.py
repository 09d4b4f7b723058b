"""Operators' SQL: how long the daemon waits for the program that runs a query."""

import asyncio
from pathlib import Path

import pytest

from outlast.model.errors import InvalidRequest, Unavailable
from outlast.model.sql import SqlQuery
from outlast.storage.sqlite.sql import client
from tests.support.waiting import DEADLINE_S

HOURS_S = 86400.0


async def ask(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> bytes:
    """Run a query with another program in place of the one that runs queries."""
    monkeypatch.setattr(client, "_PROGRAM", program.encode())
    async with asyncio.timeout(DEADLINE_S):
        return await client.SqlClient(folder / "outlast.db").run_query(SqlQuery(query="SELECT 1", timeout_s=0.01))


async def test_a_query_has_its_own_time_and_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The time that the program may take to start is not added."""
    monkeypatch.setattr(client, "_START_S", HOURS_S)
    with pytest.raises(InvalidRequest, match=r"longer than 0\.01 s"):
        await ask(monkeypatch, tmp_path, f"import time; print(flush=True); time.sleep({HOURS_S})")


async def test_a_program_that_does_not_begin_has_done_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "_START_S", 0.01)
    with pytest.raises(Unavailable, match="restart the daemon"):
        await ask(monkeypatch, tmp_path, f"import time; time.sleep({HOURS_S})")


async def test_a_program_that_fails_at_its_start_has_done_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after an upgrade of the files under a daemon: the program may not understand the request."""
    monkeypatch.setattr(client, "_START_S", HOURS_S)
    with pytest.raises(Unavailable, match="restart the daemon"):
        await ask(monkeypatch, tmp_path, "raise SystemExit(1)")


async def test_an_error_before_the_query_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="unable to open"):
        await ask(monkeypatch, tmp_path, """print('{"error":"unable to open"}', end="")""")
