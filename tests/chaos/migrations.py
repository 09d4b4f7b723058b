"""Kills at each failpoint inside migrations, which a daemon passes once in the life of a database."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

from outlast import failpoints
from outlast.storage.sqlite.migrate import migrations
from tests.chaos.cleanup import end_everything
from tests.chaos.daemon_client import TOKEN
from tests.chaos.database import open_database
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S

MIGRATION_POINTS = tuple(point for point in failpoints.POINTS if point.startswith("migration-"))


async def kill_in_migrations(folder: Path) -> tuple[Counter[str], list[str]]:
    """Kill a daemon inside and behind each migration of one database, and see the next one go on from there.

    Returns:
        The hits of each point, and findings.
    """
    hits: Counter[str] = Counter()
    findings: list[str] = []
    home = folder / "migrations"
    home.mkdir()
    daemon = Daemon(home / "state", OUTLAST_TOKEN=TOKEN)
    for version in range(1, len(migrations()) + 1):
        # Killed inside, the migration is rolled back, and the next daemon begins with it.
        for point, kept in (("migration-inside", version - 1), ("migration-after", version)):
            daemon.environment[failpoints.VARIABLE] = point
            await daemon.launch()
            said = await daemon.announcement()
            if not said and daemon.process is not None:
                await daemon.process.wait()
            code = await daemon.stop(signal.SIGKILL)
            if said or code != -signal.SIGKILL:
                findings.append(f"a daemon armed with {point} said {said!r} and ended with {code}")
            hits[point] += 1
            with open_database(daemon.state_dir / "outlast.db") as database:
                if database.version() != kept:
                    findings.append(f"killed at {point}, the database has version {database.version()}, not {kept}")
    findings += await _serves(daemon)
    return hits, findings


async def _serves(daemon: Daemon) -> list[str]:
    """Check that a daemon works on what the killed ones have left."""
    daemon.environment[failpoints.VARIABLE] = ""
    await daemon.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            ended = await daemon.ended(await daemon.sh("echo here; exit 5"))
            seen = (ended["exit_code"], await daemon.raw(ended))
    except TimeoutError:
        seen = None
    findings = [] if seen == (5, b"here\n") else [f"after kills in a migration a process gave {seen}"]
    return findings + await end_everything(daemon)
