"""Retention of what terminals show: it has no lines, and clients that count its bytes are told how many are gone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon import PYTHON, Daemon
from tests.support.patched_daemon import patched_daemon
from tests.support.terminal import attach, create
from tests.support.waiting import eventually
from tests.system.test_recordings import recorded_session, recording
from tests.system.test_retention import OFTEN, run_to_end, start_with, wait_for_handles
from tests.system.test_retention_of_output import MIB, held

_REPAINT = """
import os
for n in range(8000):
    os.write(1, b"\\x1b[H%06d " % n + os.urandom(500).hex().encode())
"""
"""A program that repaints its screen and never ends a line: 1010 bytes at a time."""
_BYTES = 8000 * 1010


@pytest.fixture
async def keeper(state_dir: Path) -> AsyncIterator[Daemon]:
    """Yield a daemon that looks often, and is not started."""
    daemon = patched_daemon(state_dir, OFTEN)
    try:
        yield daemon
    finally:
        await daemon.end_everything()


async def test_a_terminal_stays_within_the_limit_of_a_process(keeper: Daemon) -> None:
    await start_with(keeper, keep_process_bytes=MIB)
    session = await create(keeper, PYTHON, "-c", _REPAINT)
    process = await keeper.ended({"id": session["session_id"]})
    await eventually(lambda: 0 < held(keeper, process) <= MIB, "the limit holds")

    async with attach(keeper, session, query="?after=0") as client:
        assert (await client.ended())[0] == 0
        kept = len(client.output)
        assert 0 < kept < 2 * MIB
        assert client.position == _BYTES - kept
        last = bytes(client.output[-1010:])
    assert last.startswith(b"\x1b[H007999 ")

    header, *events = await recording(keeper, session)
    assert header["version"] == 3
    assert [kind for _, kind, _ in events[:2]] == ["m", "o"]
    assert events[0][1:] == ["m", "output is missing: retention"]
    assert sum(len(data) for _, kind, data in events if kind == "o") == kept


async def test_a_session_may_say_what_is_kept_of_it(keeper: Daemon) -> None:
    await start_with(keeper)
    session = await create(keeper, PYTHON, "-c", _REPAINT, keep={"bytes": MIB})
    process = await keeper.ended({"id": session["session_id"]})
    await eventually(lambda: 0 < held(keeper, process) <= MIB, "the limit holds")


async def test_the_sizes_of_a_terminal_go_with_it(keeper: Daemon) -> None:
    await start_with(keeper, keep_ended=1)
    session = await recorded_session(keeper)
    assert len(keeper.sql("SELECT * FROM terminal_size")) == 1
    await keeper.ended({"id": session["session_id"]})
    newest = await run_to_end(keeper)
    await wait_for_handles(keeper, [newest["handle"]])
    assert keeper.sql("SELECT * FROM terminal_size") == []
