"""The summary of a campaign, for a human."""

from tests.chaos.checker import Verdict
from tests.chaos.ledger import Ledger
from tests.chaos.migrations import MIGRATION_POINTS
from tests.chaos.plan import POINTS

_FINDINGS_SHOWN = 20


def missed_points(ledger: Ledger) -> list[str]:
    """Return the points at which no daemon was killed in the whole campaign."""
    return [point for point in (*POINTS, *MIGRATION_POINTS) if not ledger.hits[point]]


def summary(ledger: Ledger, verdict: Verdict, checking_s: float) -> str:
    """Say what was done, and what came of it."""
    by_points = sum(ledger.hits.values())
    rows = [
        ("seed", f"{ledger.seed}"),
        ("kills", f"{ledger.kills}, {by_points} of them at named points"),
        ("points hit", ", ".join(f"{point} {count}" for point, count in sorted(ledger.hits.items()))),
        ("processes", f"{verdict.processes}, and {verdict.never_started} whose start came to nothing"),
        ("lost answers", f"{ledger.lost_answers} starts were not answered"),
        ("bytes", f"{verdict.bytes:,}"),
        ("lines", f"{verdict.lines:,}, {verdict.parted_lines} of them parts of what was written whole"),
        ("followers", f"{verdict.followers}, given {verdict.followed_events:,} events"),
        ("compared", f"{verdict.compared_events:,} events"),
        ("seconds", f"{ledger.seconds:.0f} of killing, {checking_s:.0f} of checking"),
        ("verdict", "all is as it must be" if not verdict.findings else f"{len(verdict.findings)} FINDINGS"),
    ]
    text = "\n".join(f"  {name:<14}{value}" for name, value in rows)
    if not verdict.findings:
        return text
    found = "\n".join(f"  - {finding}" for finding in verdict.findings[:_FINDINGS_SHOWN])
    replay = f"python -m tests.chaos --kills {ledger.planned} --seed {ledger.seed}"
    return f"{text}\n{found}\n  replay with: {replay}"
