"""One campaign, from an empty folder to a verdict."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign import Campaign
from tests.chaos.checker import check
from tests.chaos.migrations import MIGRATION_POINTS, kill_in_migrations
from tests.chaos.report import summary
from tests.support.daemon import left_over


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a campaign found nothing wrong, and its summary."""

    passed: bool
    summary: str


async def run(
    folder: Path, *, seed: int, kills: int, minutes: float | None = None, with_migrations: bool = True
) -> Outcome:
    """Kill, check, and end everything that was started in `folder`, which must be empty.

    Args:
        folder: folder of all files.
        seed: seed of the plan. Kills in migrations do not depend on it.
        kills: number of kills, besides those in migrations.
        minutes: limit of the killing.
        with_migrations: whether to kill in migrations, too.
    """
    campaign = Campaign(folder, seed, kills, minutes)
    try:
        await campaign.run()
        began = time.monotonic()
        verdict = await check(campaign.log, campaign.client, campaign.before, campaign.daemon.pid)
        checking_s = time.monotonic() - began
    finally:
        await campaign.close()
    verdict.findings += campaign.log.complaints
    if with_migrations:
        hits, findings = await kill_in_migrations(folder)
        campaign.log.hits += hits
        campaign.log.kills["daemon"] += hits.total()
        verdict.findings += findings
    verdict.findings += [f"left after `outlast shutdown`: {what}" for what in left_over(campaign.log.state_dir)]
    verdict.findings += [
        f"nothing was ever killed at {point}"
        for point in (*campaign.points, *(MIGRATION_POINTS if with_migrations else ()))
        if not campaign.log.hits[point]
    ]
    if not campaign.log.kills["shim"]:
        verdict.findings.append("no shim was ever killed")
    return Outcome(not verdict.findings, summary(campaign.log, verdict, checking_s))
