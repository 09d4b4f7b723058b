"""The summary of a campaign, for a human."""

from tests.chaos.campaign_log import CampaignLog
from tests.chaos.checker import Verdict

_FINDINGS_SHOWN = 20


def summary(log: CampaignLog, verdict: Verdict, checking_s: float) -> str:
    """Return the counts of a campaign, and its findings."""
    by_points = sum(log.hits.values())
    kills, doubles = log.kills, sum(death.double for death in log.shim_deaths)
    kinds = f"{kills['daemon']} daemons, {kills['shim']} shims under a daemon that lived, {kills['both']} of both,"
    kinds += f" {kills['helper']} fork helpers"
    officials = f"{verdict.officials} official clients (which gave up {verdict.official_errors} times)"
    rows = [
        ("seed", f"{log.seed}"),
        ("kills", f"{kills.total()}: {kinds}; {by_points} of them at named points"),
        ("in order", f"{log.stops} daemons ended by SIGTERM, {log.upgrades} upgrades of the shim"),
        ("points hit", ", ".join(f"{point} {count}" for point, count in sorted(log.hits.items()))),
        ("processes", f"{verdict.processes}, each started once; {log.lost_answers} answers were lost"),
        ("lost", f"{verdict.lost} processes in {doubles} double deaths, {verdict.never_ran} of them before they ran"),
        ("bytes", f"{verdict.bytes:,}"),
        ("lines", f"{verdict.lines:,}, {verdict.parted_lines} of them parts of what was written whole"),
        (
            "followers",
            f"{verdict.followers}, given {verdict.followed_events:,} events, {verdict.lost_events} of them lost",
        ),
        (
            "callers",
            f"{verdict.runs} of `run` ({verdict.broken_runs} streams broken), {verdict.waits} of `wait`, {officials}",
        ),
        ("restarts", f"{verdict.restarts} of managed processes"),
        ("compared", f"{verdict.compared_events:,} events"),
        ("seconds", f"{log.seconds:.0f} of killing, {checking_s:.0f} of checking"),
        (
            "verdict",
            "everything matches" if not verdict.findings else f"{len(verdict.findings)} FINDINGS",
        ),
    ]
    text = "\n".join(f"  {name:<14}{value}" for name, value in rows)
    if not verdict.findings:
        return text
    found = "\n".join(f"  - {finding}" for finding in verdict.findings[:_FINDINGS_SHOWN])
    replay = f"python -m tests.chaos --kills {log.planned} --seed {log.seed}"
    return f"{text}\n{found}\n  replay with: {replay}"
