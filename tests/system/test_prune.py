"""`outlast du` and `outlast prune`: who holds what, what would go, and what goes while no daemon runs."""

import json
from typing import Any

import pytest

from tests.support.daemon import Daemon, outlast
from tests.system.test_retention import run_to_end, start_with
from tests.system.test_retention_of_output import MIB, flooded, held


async def asked(daemon: Daemon, *words: str, code: int = 0) -> str:
    """Run a command on the daemon's state folder, and return what it says."""
    found, output = await outlast(*words, "--state-dir", str(daemon.state_dir), **daemon.environment)
    assert found == code, output
    return output


async def due(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Return what would go, by setting."""
    rows = map(json.loads, (await asked(daemon, "prune", "--dry-run", "--format", "json")).splitlines())
    return {row.pop("setting"): row for row in rows}


@pytest.mark.slow
async def test_what_would_go_goes(daemon: Daemon) -> None:
    await daemon.stop()
    await start_with(daemon, keep_ended=0, keep_total_bytes=0)
    large, small = await flooded(daemon, 4000), await flooded(daemon, 400)
    always = await flooded(daemon, 1000, keep="always")
    ended = [await run_to_end(daemon) for _ in range(5)]

    rows = [json.loads(row) for row in (await asked(daemon, "du", "--format", "json", "--limit", "3")).splitlines()]
    assert [row["process_id"] for row in rows] == [process["id"] for process in (large, always, small)]
    assert [row["disk_bytes"] for row in rows] == [held(daemon, process) for process in (large, always, small)]
    assert "disk_bytes" in await asked(daemon, "du")
    assert not any(any(row.values()) for row in (await due(daemon)).values())

    config = daemon.state_dir.parent / "outlast.toml"
    config.write_text(f"keep_process_bytes = {MIB}\nkeep_ended = 3\nkeep_total_bytes = {100 * MIB}\n")
    would = await due(daemon)
    assert would["keep_process_bytes"]["disk_bytes"] == held(daemon, large) - MIB * 9 // 10
    assert would["keep_ended"]["processes"] == 4
    assert "A daemon that runs prunes by itself" in await asked(daemon, "prune", code=1)

    await daemon.stop()
    assert await due(daemon) == would
    told = await asked(daemon, "prune")
    assert "4 ended processes by keep_ended" in told
    assert "MiB of output by keep_process_bytes" in told
    assert "nothing is beyond a limit" in await asked(daemon, "prune")
    await daemon.start()
    left = await daemon.call("GET", "/processes?order=oldest", 200)
    assert [process["id"] for process in left["processes"]] == [process["id"] for process in (always, *ended[-3:])]
