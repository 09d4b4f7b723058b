"""The default list holds all that runs, whatever was started after it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.patched_daemon import patched_daemon

LIMIT = 3
SHORT_PAGES = f"""
import sys
if "serve" in sys.orig_argv:
    import outlast.api.schemas.lists as lists
    lists._DEFAULT_LIMIT = {LIMIT}
"""


@pytest.fixture
async def daemon(state_dir: Path) -> AsyncIterator[Daemon]:
    running = patched_daemon(state_dir, SHORT_PAGES)
    try:
        await running.start()
        yield running
    finally:
        await running.end_everything()


async def test_the_default_list_holds_all_that_runs(daemon: Daemon) -> None:
    ended = [await daemon.run("true", tags={"kind": "old"})]
    running = [await daemon.run("sleep", "1000", tags={"kind": kind}) for kind in ("old", "old", "new")]
    ended += [await daemon.run("true", tags={"kind": "new"}) for _ in range(LIMIT)]
    for process in ended:
        await daemon.ended(process)

    async def page(query: str = "") -> tuple[list[int], str | None]:
        answer = await daemon.call("GET", f"/processes{query}", 200)
        return [process["handle"] for process in answer["processes"]], answer["next"]

    assert [process["handle"] for process in (*ended, *running)] == [1, 5, 6, 7, 2, 3, 4]
    first, following = await page()
    assert first == [7, 6, 5, 4, 3, 2]
    assert (await page(f"?cursor={following}"))[0] == [4, 3, 2]
    assert (await page("?order=oldest"))[0] == [1, 2, 3, 4]
    assert (await page("?tag=kind:new"))[0] == [7, 6, 5, 4]
    assert (await page("?status=running"))[0] == [4, 3, 2]
    assert (await page("?status=exited"))[0] == [7, 6, 5]
    assert (await page("?limit=2"))[0] == [7, 6], "a limit is a limit"
    assert (await page("?limit=7"))[0] == [7, 6, 5, 4, 3, 2, 1]
