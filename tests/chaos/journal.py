"""A child's own account of its life, beside its output: it does not go through what is under test.

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
    """Where the child of a tag gives its account."""
    return folder / f"{tag}.jsonl"


def input_path(folder: Path, tag: str) -> Path:
    """Where an `echo` keeps what it has read."""
    return folder / f"{tag}.input"


def absence_path(folder: Path, tag: str) -> Path:
    """The file that says that no daemon is there."""
    return folder / f"{tag}.absent"


class JournalWriter:
    """Written by a child, an atomic append each."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, what: str, **fields: Any) -> None:
        os.write(self._fd, json.dumps({"what": what, **fields}).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Written:
    """A write: it began and ended at these times, after which so many bytes of the stream were written."""

    stream: int
    begun_ms: int
    done_ms: int
    total_bytes: int


@dataclass(slots=True)
class Journal:
    """What a child's account says."""

    pids: list[int] = field(default_factory=list)
    start_ms: int = 0
    end_ms: int | None = None
    writes: list[Written] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    input_ended_ms: int | None = None
    finished: bool = False


def read_journal(path: Path) -> Journal | None:
    """Read an account; None: the child never ran."""
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
