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
    """Whether all was as it must be, and the summary."""

    passed: bool
    summary: str


async def run(
    folder: Path, *, seed: int, kills: int, minutes: float | None = None, with_migrations: bool = True
) -> Outcome:
    """Kill, check, and end everything that was started in `folder`, which must be empty.

    Args:
        folder: where all of it lies.
        seed: what is done follows from it, but for the kills in migrations, which are always the same.
        kills: how many, besides those.
        minutes: no longer than this.
        with_migrations: kill in migrations, too.
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
    verdict.findings += [f"still there after `outlast down`: {what}" for what in left_over(campaign.log.state_dir)]
    verdict.findings += [
        f"nothing was ever killed at {point}"
        for point in (*campaign.points, *(MIGRATION_POINTS if with_migrations else ()))
        if not campaign.log.hits[point]
    ]
    if not campaign.log.kills["shim"]:
        verdict.findings.append("no shim was ever killed")
    return Outcome(not verdict.findings, summary(campaign.log, verdict, checking_s))
