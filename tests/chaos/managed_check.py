"""The check of one managed child: each run by itself, and what readers see of all of them."""

import itertools
from typing import Any

from tests.chaos.child_check import ChildCheck
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.database import WORDS, Database, Line
from tests.chaos.differences import bytes_differ
from tests.chaos.numbers import expected_numbers
from tests.chaos.scripts import RUNS, expected, run_kind


class ManagedCheck(ChildCheck):
    """A comparison of the runs of one managed process with the scripts of its child."""

    async def run(self, client: DaemonClient, database: Database) -> None:
        """Compare all of it, and note what was found."""
        lines = [line for chunk in database.chunks(self._listed["id"]) for line in chunk.lines()]
        runs = (await client.get(f"{self._path}/runs?limit=1000"))["runs"][::-1]
        self.is_torn = any(run["reason"] == "lost" for run in runs) or any(line.gap for line in lines)
        self._differ("the numbers of its runs", [run["run"] for run in runs], list(range(1, len(runs) + 1)))
        self._check_managed_events(database, runs)
        self._check_executions(runs)
        output = database.output_of_runs(self._listed["id"])
        for run in runs:
            self._check_run(run, {stream: output.get((run["run"], stream), b"") for stream in WORDS})
        if self.is_torn and not self._log.may_be_lost(self._record):
            self.findings.append("a run of it is lost, and daemon and shim never died together while it ran")
        managed = self._listed["managed"]
        end = (managed["status"], managed["restart_count"], self._listed["exit_code"])
        self._differ("its end", end, ("stopped", len(runs) - 1, 0))
        self._check_all_runs(lines)
        self._check_views(database, lines)
        await self._check_reads(client, lines)
        await self._check_follows(client, lines)
        self._check_callers(lines)
        self.bytes = sum(len(line.data) for line in lines)
        self.lines = len(lines)

    def _check_managed_events(self, database: Database, runs: list[dict[str, Any]]) -> None:
        ends = ["lost" if run["reason"] == "lost" else "exited" for run in runs]
        begins = ["started", *("restarted" for _ in runs[1:])]
        wanted = [*itertools.chain.from_iterable(zip(begins, ends, strict=True)), "stopped"]
        self._differ("its events", database.event_types(self._listed["id"]), wanted)

    def _check_executions(self, runs: list[dict[str, Any]]) -> None:
        """Check that each run was executed once, except that one that is lost may not have been."""
        pids = self._journal.pids
        certain = [run["pid"] for run in runs if run["reason"] != "lost" or run["pid"] in pids]
        self._differ("the pids of its runs, as it says and as recorded", pids, certain)
        if not self.is_torn:
            self._differ("its executions", len(pids), RUNS)

    def _check_run(self, run: dict[str, Any], output: dict[int, bytes]) -> None:
        if run["pid"] not in self._journal.pids:
            self._differ(f"output of run {run['run']}, which never ran", set(output.values()), {b""})
            return
        wanted = expected(self._record.start.seed, run_kind(self._journal.pids.index(run["pid"])))
        is_lost = run["reason"] == "lost"
        for stream, word in WORDS.items():
            whole = wanted.written[stream]
            may_be_cut = is_lost or self.is_torn
            part = whole[: len(output[stream])] if may_be_cut else whole
            self._find(bytes_differ(f"{word} of run {run['run']}", output[stream], part))
        if not is_lost:
            end = (run["status"], run["exit_code"])
            self._differ(f"the end of run {run['run']}", end, ("exited", wanted.code))

    def _check_all_runs(self, lines: list[Line]) -> None:
        """Let the readers be compared with what is stored, which agrees with the scripts."""
        self._differ("sequence numbers", [line.seq for line in lines], expected_numbers(lines))
        for stream in WORDS:
            self._wanted.written[stream] = b"".join(line.data for line in lines if line.stream == stream)
        self._wanted.code = 0
