"""The journal of a child: its own record of what it did, which does not pass through the code under test.

One JSON object a line: `start`, a `write` with the times around it (milliseconds since the epoch) and the bytes written
so far, `end`, `disturbed`. Standard library only: children import it.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def journal_path(folder: Path, tag: str) -> Path:
    """Return the path of the journal of the child with this tag."""
    return folder / f"{tag}.jsonl"


def input_path(folder: Path, tag: str) -> Path:
    """Return the path of the copy of its input that an `echo` keeps."""
    return folder / f"{tag}.input"


def absence_path(folder: Path, tag: str) -> Path:
    """Return the path of the file whose existence tells a child that no daemon runs."""
    return folder / f"{tag}.absent"


class JournalWriter:
    """A writer of a journal: each entry is one atomic append."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, what: str, **fields: Any) -> None:
        os.write(self._fd, json.dumps({"what": what, **fields}).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Written:
    """A write of a child: begin, end, and the total bytes of the stream after it."""

    stream: int
    begun_ms: int
    done_ms: int
    total_bytes: int


@dataclass(slots=True)
class Journal:
    """Content of a journal."""

    pids: list[int] = field(default_factory=list)
    start_ms: int = 0
    end_ms: int | None = None
    writes: list[Written] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    input_ended_ms: int | None = None
    finished: bool = False


def read_journal(path: Path) -> Journal | None:
    """Return the content of a journal; None if the child never ran."""
    if not path.exists():
        return None
    journal = Journal()
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        match entry.pop("what"):
            case "start":
                journal.pids.append(entry["pid"])
                journal.start_ms = entry["ms"]
            case "write":
                journal.writes.append(Written(**entry))
            case "end":
                journal.end_ms = entry["ms"]
            case "finished":
                journal.finished = True
            case "input-ended":
                journal.input_ended_ms = entry["ms"]
            case "disturbed":
                journal.disturbed.append(entry["why"])
    return journal
