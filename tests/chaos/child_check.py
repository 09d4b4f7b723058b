"""The check of one child: everything that can be read of it is compared with its script."""

import itertools
import json
from bisect import bisect_left
from typing import Any

from harness.http_client import EVENT_STREAM
from tests.chaos.campaign_log import CampaignLog, Record
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.database import WORDS, Database, Line, StoredChunk, whole
from tests.chaos.differences import bytes_differ, rows_differ
from tests.chaos.follower import EOF, Follower
from tests.chaos.journal import Journal, Written, input_path
from tests.chaos.numbers import expected_numbers, lost_differ, split_lost
from tests.chaos.scripts import LONG_LINE_BYTES, RESTARTED, STDERR, STDOUT, TERMINAL, Expected, expected

_CLOCK_MS = 2
_TICK_MS = 10
"""Milliseconds of a kernel tick. Output that a killed shim had read and not noted has the time of its file."""
SLACK_MS = 1500
"""Milliseconds that a busy machine may take to read a line; less than a long absence of daemons."""
_NEVER_BLOCKED_BYTES = 60_000


class ChildCheck:
    """A comparison of one process with the script of its child.

    Attributes:
        is_torn: the end of the process or of its output is lost, because daemon and shim died together.
        findings: differences, in sentences.
    """

    def __init__(self, record: Record, journal: Journal | None, listed: dict[str, Any], log: CampaignLog) -> None:
        self._record = record
        self._journal = journal or Journal()
        self._listed = listed
        self._log = log
        self._path = f"/processes/{listed['id']}"
        kind = record.start.kind
        self._wanted = Expected() if kind == RESTARTED else expected(record.start.seed, kind)
        self._input_path = input_path(log.children_dir, record.start.tag)
        self._script: dict[int, bytes] | None = None
        self.is_torn = False
        self.findings: list[str] = []
        self.bytes = self.lines = self.compared_events = self.lost_events = self.parted_lines = 0

    async def run(self, client: DaemonClient, database: Database) -> None:
        """Compare all of it, and note what was found."""
        chunks = database.chunks(self._listed["id"])
        lines = [line for chunk in chunks for line in chunk.lines()]
        self.is_torn = self._listed["reason"] == "lost" or any(chunk.gap for chunk in chunks)
        if self._listed["status"] == "running" or not (self._journal.finished or self.is_torn):
            self.findings.append(
                f"it ended at {self._journal.end_ms}, as it says, and is listed: {self._listed['status']}"
            )
            return
        if self._record.start.kind == "echo":
            self._wanted.written[STDOUT] = self._check_input()
        if self.is_torn:
            self._check_torn(chunks)
        elif self._record.refused:
            self.findings.append(f"its input was refused: {self._record.refused}")
        self._check_events(database)
        self._check_account()
        self._check_end()
        self._check_chunks(chunks, lines)
        self._check_times(chunks)
        self._check_views(database, lines)
        await self._check_reads(client, lines)
        await self._check_follows(client, lines)
        self._check_callers(lines)
        self.bytes = sum(len(chunk.data) for chunk in chunks)
        self.lines = len(lines)

    def _find(self, finding: str | None) -> None:
        if finding is not None:
            self.findings.append(finding)

    def _differ(self, what: str, got: object, wanted: object) -> None:
        if got != wanted:
            self.findings.append(f"{what}: got {got}, wanted {wanted}")

    # ---- what was lost

    def _check_torn(self, chunks: list[StoredChunk]) -> None:
        """Check that a beginning is stored, that gaps follow, and that a double death explains them."""
        if not self._log.may_be_lost(self._record):
            self.findings.append(
                f"it is lost ({self._listed['reason']}), and daemon and shim never died together while it ran"
            )
        streams = (STDOUT,) if self._record.start.kind == TERMINAL else (STDOUT, STDERR)
        before, last = chunks[: -len(streams)], chunks[-len(streams) :]
        gaps = [(chunk.stream, chunk.gap, chunk.missing_bytes) for chunk in last]
        self._differ("what its output ends with", gaps, [(stream, "lost", 0) for stream in streams])
        self._differ("its gaps before that", [chunk.first_seq for chunk in before if chunk.gap], [])
        self._script = dict(self._wanted.written)
        for stream, word in WORDS.items():
            stored = b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
            self._find(bytes_differ(f"stored {word}", stored, self._wanted.written[stream][: len(stored)]))
            self._wanted.written[stream] = stored
        if self._listed["reason"] == "lost":
            self._wanted.code = self._wanted.signal = None

    # ---- callers

    def _check_callers(self, lines: list[Line]) -> None:
        """Compare what callers of `run` and of waits, and the official client, were given."""
        record = self._record
        if record.run_caller is not None:
            for stream, word in WORDS.items():
                texts = _texts(self._wanted.written[stream])
                shown = record.run_caller.lines[word]
                if self.is_torn:  # the caller may have seen lines that were lost
                    shown = shown[: len(texts)]
                self._find(rows_differ(f"the stream of `run`, {word}", shown, texts))
            end = record.run_caller.end
            wanted = (self._listed["reason"], self._listed["exit_code"], self._listed["signal"])
            self._differ("the end of `run`", end and (end.reason, end.exit_code, end.signal), wanted)
        if record.start.is_awaited:
            awaited = record.awaited or {}
            is_managed = record.start.kind == RESTARTED  # another run may have ended since
            keys = ("id", *(() if is_managed else ("status", "reason", "exit_code", "signal", "ended_at")))
            wanted_end = [self._listed[key] for key in keys]
            self._differ("what a wait for its exit told", [awaited.get(key) for key in keys], wanted_end)
        if record.official is not None:
            of_lines = [(WORDS[line.stream], line.data.decode(errors="replace")) for line in lines if not line.gap]
            got = record.official.lines or []
            if self.is_torn:  # it may have seen lines that were lost
                got = got[: len(of_lines)]
            self._find(rows_differ("the official client", got, of_lines))

        if record.viewer is not None:
            seen = bytes(record.viewer.shown)
            written = self._wanted.written[STDOUT]
            if self._script is not None:  # it may have seen what was lost
                written = self._script[STDOUT][: len(seen)]
            self._find(bytes_differ("what its terminal showed", seen, written))
            self._differ("the end of its terminal", record.viewer.has_ended, True)

    # ---- the child itself

    def _check_events(self, database: Database) -> None:
        end = "lost" if self._listed["reason"] == "lost" else "exited"
        self._differ("its events", database.event_types(self._listed["id"]), ["started", end])

    def _check_account(self) -> None:
        pids = self._journal.pids
        if self.is_torn and not pids:
            return  # the child was killed at its gate, or before it could write its journal
        self.findings += [f"it was disturbed: {why}" for why in self._journal.disturbed if not self.is_torn]
        self._differ("its pid, as it says and as listed", pids, [self._listed["pid"]])

    def _check_input(self) -> bytes:
        """Check and return the input of an `echo`: answered messages are whole, others came at most once."""
        got = self._input_path.read_bytes() if self._input_path.exists() else b""
        rest = got
        for number, (message, answered) in enumerate(self._record.inputs):
            taken = _common_prefix(rest, message)
            if answered and taken < len(message) and not self.is_torn:
                self._find(bytes_differ(f"input message {number}, which was answered", rest[: len(message)], message))
                return got
            rest = rest[taken:]
        if rest:
            self.findings.append(f"input: {len(rest)} bytes that were not sent, or twice: {rest[:80]!r}")
        if self.is_torn:
            return got
        closing_ms = self._record.closing_ms
        if closing_ms is None or (self._journal.input_ended_ms or closing_ms) < closing_ms - _CLOCK_MS:
            self.findings.append(f"its input ended at {self._journal.input_ended_ms}, and was closed at {closing_ms}")
        return got

    def _check_end(self) -> None:
        wanted, listed = self._wanted, self._listed
        status = "exited" if wanted.signal is None else "signaled"
        is_lost = self.is_torn and listed["reason"] == "lost"
        end = (listed["status"], listed["reason"], listed["exit_code"], listed["signal"])
        self._differ("its end", end, (status, "lost" if is_lost else status, wanted.code, wanted.signal))
        latest_ms = self._journal.start_ms if self._journal.pids else listed["ended_at"]
        if not self._record.asked_ms - _CLOCK_MS <= listed["started_at"] <= latest_ms + _CLOCK_MS:
            self.findings.append(
                f"started_at {listed['started_at']} is not between request ({self._record.asked_ms}) and its own "
                f"start ({self._journal.start_ms})"
            )
        end_ms, ended_at = self._journal.end_ms, listed["ended_at"]
        if is_lost:
            return
        if end_ms is None or ended_at is None or not end_ms - _CLOCK_MS <= ended_at <= self._latest(end_ms):
            self.findings.append(f"ended_at is {ended_at}, it says {end_ms}")

    def _latest(self, ms: int) -> int:
        """Return the latest time at which a shim has seen what happened at `ms`."""
        return self._log.seen_by_ms(ms) + SLACK_MS

    # ---- plain SQL

    def _check_chunks(self, chunks: list[StoredChunk], lines: list[Line]) -> None:
        for stream, word in WORDS.items():
            stored = b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
            self._find(bytes_differ(f"stored {word}", stored, self._wanted.written[stream]))
        self._find(rows_differ("sequence numbers", [line.seq for line in lines], expected_numbers(lines)))
        counts = [(chunk.first_seq, chunk.line_count) for chunk in chunks]
        counted = [(chunk.first_seq, sum(1 for _ in chunk.lines())) for chunk in chunks]
        self._find(rows_differ("chunks (first number, lines)", counts, counted))
        ends = {STDOUT: 0, STDERR: 0}
        wanted = []
        for chunk in chunks:
            ends[chunk.stream] += len(chunk.data)
            wanted.append((chunk.first_seq, dict(ends)))
        self._find(
            rows_differ("chunks (first number, positions)", [(each.first_seq, each.ends) for each in chunks], wanted)
        )
        self._check_parts(lines)

    def _check_parts(self, lines: list[Line]) -> None:
        """Count the lines that were parted although they were written whole, as a machine that stalls may do."""
        if self._record.start.kind in {"prompts", "binary", "long-lines", "echo"}:
            return
        self.parted_lines = sum(not line.data.endswith(b"\n") for line in lines if not line.gap)

    def _check_times(self, chunks: list[StoredChunk]) -> None:
        writes = {stream: [each for each in self._journal.writes if each.stream == stream] for stream in WORDS}
        small = sum(len(data) for data in self._wanted.written.values()) < _NEVER_BLOCKED_BYTES
        latest_ms = 0
        for chunk in chunks:
            latest_ms = max(latest_ms, chunk.ts_ms)
            if chunk.latest_ts_ms is not None:
                self._differ(f"latest time at line {chunk.first_seq}", chunk.latest_ts_ms, latest_ms)
            last = _write_of(writes[chunk.stream], chunk.ends[chunk.stream])
            if chunk.gap or (last is None and self.is_torn):
                continue  # the child was killed before it could write its journal
            if last is None:
                self.findings.append(f"line {chunk.first_seq}: no write of it is in the journal")
            elif chunk.ts_ms < last.begun_ms - _TICK_MS:
                self.findings.append(
                    f"line {chunk.first_seq} has the time {chunk.ts_ms}, before it was written: {last}"
                )
            elif small and chunk.ts_ms > self._latest(last.done_ms):
                self.findings.append(f"line {chunk.first_seq} has the time {chunk.ts_ms}, long after {last}")

    def _check_views(self, database: Database, lines: list[Line]) -> None:
        of_lines = [line for line in whole(lines) if not line.gap]
        shown = [(line.seq, line.ts_ms, WORDS[line.stream].encode(), _as_shown(line.data)) for line in of_lines]
        self._find(rows_differ("the view output_lines", database.shown_lines(self._listed["id"]), shown))
        size = sum(len(line.data) for line in lines)
        row = (self._wanted.code, self._wanted.signal, len(of_lines), size, 1)
        self._differ("the view processes", database.shown_process(self._listed["id"]), row)

    # ---- HTTP

    async def _check_reads(self, client: DaemonClient, lines: list[Line]) -> None:
        for stream, word in WORDS.items():
            wanted = self._wanted.written[stream]
            self._find(bytes_differ(f"{word} as bytes", await client.raw(f"{self._path}/{word}"), wanted))
            answer = await client.get(f"{self._path}/{word}")
            self._differ("line_count", answer["line_count"], len(answer["lines"]))
            self._check_json(word, answer["lines"], wanted)
        both = b"".join(line.data for line in lines)
        self._find(bytes_differ("output as bytes", await client.raw(f"{self._path}/output"), both))
        ndjson = (await client.read(f"{self._path}/output", "application/x-ndjson")).decode()
        events = [_parse_row(json.loads(row)) for row in ndjson.split("\n")[:-1]]
        self._find(rows_differ("NDJSON", events, _as_events(whole(lines))))
        self.compared_events += len(events)

    def _check_json(self, word: str, got: list[str], wanted: bytes) -> None:
        longest = max((len(line) for line in wanted.split(b"\n")), default=0)
        texts = _texts(wanted)
        if longest < LONG_LINE_BYTES:
            self._find(rows_differ(f"{word} as JSON", got, texts))
        else:  # where an over-long line is parted depends on when it was read
            self._find(bytes_differ(f"{word} as JSON", "".join(got).encode(), "".join(texts).encode()))

    async def _check_follows(self, client: DaemonClient, lines: list[Line]) -> None:
        raw = await client.read(f"{self._path}/output/follow", EVENT_STREAM)
        blocks = raw.split(b"\n\n")
        self._differ("the end of a replay", [EOF in blocks[-2], blocks[-1]], [True, b""])
        events = [block for block in blocks[:-2] if not block.startswith(b":")]
        self._find(rows_differ("replay", [_parse(event) for event in events], _as_events(lines)))
        self.compared_events += len(events)
        if len(events) != len(lines):
            return  # a finding already: the followers cannot be compared
        of_stream = {
            word: [event for event, line in zip(events, lines, strict=True) if WORDS[line.stream] == word]
            for word in WORDS.values()
        }
        of_stream["output"] = events
        numbers = [line.seq for line in lines]
        last_stored = max((line.seq for line in lines if not line.gap), default=0)
        for number, follower in enumerate(self._record.followers):
            name = f"follower {number} ({follower.plan})"
            raw = follower.path.read_bytes() if follower.path.exists() else b""
            got, lost = split_lost(raw.split(b"\n\n")[:-1], numbers)
            if self._script is not None:
                self._find(lost_differ(name, lost, last_stored, self._script, self._wanted.written))
            self.lost_events += len(lost)
            self._check_follower(name, follower, got, of_stream[follower.plan.stream])

    def _check_follower(self, name: str, follower: Follower, got: list[bytes], wanted: list[bytes]) -> None:
        self.findings += [f"{name}: {complaint}" for complaint in follower.complaints]
        if follower.finished_ms is None:
            self.findings.append(f"{name} never came to its end; its last event is {follower.last_id}")
        self.compared_events += len(got)
        if follower.plan.tail is not None:
            if len(got) < min(follower.plan.tail, len(wanted)):
                self.findings.append(f"{name} got {len(got)} events")
            wanted = wanted[len(wanted) - len(got) :]
        self._find(rows_differ(name, got, wanted))


def _common_prefix(one: bytes, other: bytes) -> int:
    if one.startswith(other):
        return len(other)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _texts(data: bytes) -> list[str]:
    """Return the lines of `data` without their ends."""
    texts = [line.decode(errors="replace") for line in data.split(b"\n")]
    return texts if texts[-1] else texts[:-1]


def _write_of(writes: list[Written], end: int) -> Written | None:
    """Find the write that wrote the byte before the offset `end`."""
    at = bisect_left(writes, end, key=lambda each: each.total_bytes)
    return writes[at] if at < len(writes) else None


def _as_shown(line: bytes) -> bytes:
    """Return a line as the SQL view shows it: no end, NUL visible, its one noncharacter read as a backslash."""
    return line.removesuffix(b"\n").replace(b"\0", "\u2400".encode()).replace("\ufdd0".encode(), b"\\")


def _as_events(lines: list[Line]) -> list[tuple[Any, ...]]:
    return [
        (line.seq, line.seq, line.seq, line.gap)
        if line.gap
        else (line.seq, line.data.decode(errors="replace"), line.ts_ms, WORDS[line.stream])
        for line in lines
    ]


def _parse_row(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["id"], *row["gap"].values()) if "gap" in row else tuple(row.values())


def _parse(event: bytes) -> tuple[Any, ...]:
    number, kind, data = event.decode().split("\n")
    assert kind in {"event: output", "event: gap"}, event[:200]
    return int(number.removeprefix("id: ")), *json.loads(data.removeprefix("data: ")).values()
