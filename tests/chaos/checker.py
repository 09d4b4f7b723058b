"""The checker: computes what each child wrote, and compares everything that can be read with that."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.campaign_log import CampaignLog, Record
from tests.chaos.child_check import ChildCheck
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.database import Database, open_database
from tests.chaos.footprint import Footprint, ids_that_run
from tests.chaos.journal import journal_path, read_journal
from tests.chaos.managed_check import ManagedCheck
from tests.chaos.scripts import RESTARTED
from tests.support.waiting import eventually

_PAGE = 1000


@dataclass(slots=True)
class Verdict:
    """Counts of what was compared, and all findings."""

    processes: int = 0
    bytes: int = 0
    lines: int = 0
    followers: int = 0
    followed_events: int = 0
    compared_events: int = 0
    lost_events: int = 0
    lost: int = 0
    never_ran: int = 0
    parted_lines: int = 0
    runs: int = 0
    broken_runs: int = 0
    waits: int = 0
    officials: int = 0
    official_errors: int = 0
    restarts: int = 0
    findings: list[str] = field(default_factory=list)


async def check(log: CampaignLog, client: DaemonClient, before: Footprint, daemon: int) -> Verdict:
    """Check a campaign whose last daemon, which has this pid, still listens."""
    verdict = Verdict()
    listed = await _list(client)
    verdict.findings += _check_list(log, listed)
    with open_database(log.state_dir / "outlast.db") as database:
        for record in log.records:
            await _check_record(record, log, client, database, listed, verdict)
        if (answer := database.integrity()) != "ok":
            verdict.findings.append(f"the database file is not sound: {answer}")
    verdict.findings += await _check_machine(log, before, daemon)
    running = ids_that_run()
    listed_ids = {process["id"]: tag for tag, processes in listed.items() for process in processes}
    verdict.findings += [f"something of {listed_ids[each]} still runs" for each in running & listed_ids.keys()]
    return verdict


async def _list(client: DaemonClient) -> dict[str, list[dict[str, Any]]]:
    """Read the whole list, by the tag of the start."""
    listed: dict[str, list[dict[str, Any]]] = {}
    cursor = ""
    while True:
        page = await client.get(f"/processes?limit={_PAGE}{cursor}")
        for process in page["processes"]:
            listed.setdefault(process["tags"].get("start", "none"), []).append(process)
        if page["next"] is None:
            return listed
        cursor = f"&cursor={page['next']}"


def _check_list(log: CampaignLog, listed: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for tag, processes in listed.items():
        if len(processes) > 1:
            yield f"{tag} is listed {len(processes)} times: {[process['id'] for process in processes]}"
    for tag in listed.keys() - {record.start.tag for record in log.records}:
        yield f"{tag} is listed and was never started"
    ids = Counter(process["id"] for processes in listed.values() for process in processes)
    yield from (f"the id {process_id} is listed {count} times" for process_id, count in ids.items() if count > 1)


async def _check_record(
    record: Record,
    log: CampaignLog,
    client: DaemonClient,
    database: Database,
    listed: dict[str, list[dict[str, Any]]],
    verdict: Verdict,
) -> None:
    tag = record.start.tag
    journal = read_journal(journal_path(log.children_dir, tag))
    found = listed.get(tag)
    if not found:
        ran = f"ran as {journal.pids}" if journal is not None else "never ran"
        answer = record.process["id"] if record.process is not None else "nothing"
        verdict.findings.append(f"{tag} {ran}, was answered with {answer}, and is not listed")
        return
    if record.process is None or record.process["id"] != found[0]["id"]:
        verdict.findings.append(f"{tag} is listed as {found[0]['id']} and was answered with {record.process}")
    is_managed = record.start.kind == RESTARTED
    checking = (ManagedCheck if is_managed else ChildCheck)(record, journal, found[0], log)
    try:
        await checking.run(client, database)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with one child, the others are checked
        checking.findings.append(f"could not be checked: {exc!r}")
    verdict.findings += [f"{tag} ({record.start.kind}): {finding}" for finding in checking.findings]
    verdict.processes += 1
    verdict.bytes += checking.bytes
    verdict.lines += checking.lines
    verdict.followers += len(record.followers)
    verdict.followed_events += sum(follower.events for follower in record.followers)
    verdict.compared_events += checking.compared_events
    verdict.lost_events += checking.lost_events
    verdict.parted_lines += checking.parted_lines
    verdict.lost += checking.is_torn
    verdict.never_ran += journal is None
    verdict.restarts += found[0]["run"] - 1
    _count_callers(record, verdict)


def _count_callers(record: Record, verdict: Verdict) -> None:
    verdict.waits += record.awaited is not None
    if record.run_caller is not None:
        verdict.runs += 1
        verdict.broken_runs += record.run_caller.broken
    if record.official is not None:
        verdict.officials += 1
        verdict.official_errors += record.official.errors


async def _check_machine(log: CampaignLog, before: Footprint, daemon: int) -> list[str]:
    """Check that daemon and shim hold what they held at the beginning, and nothing of any process."""

    def looks_as_before() -> bool:
        return Footprint.of(log.state_dir, daemon) == before

    try:
        await eventually(looks_as_before)
    except AssertionError:
        now = Footprint.of(log.state_dir, daemon)
        return [f"daemon and shim do not hold what they held at the beginning: {now}, then {before}"]
    return []
