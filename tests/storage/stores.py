"""Makes the storages that these tests are about."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.storage.base import Change
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import SqliteStorage
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.maintenance import compression
from outlast.storage.sqlite.maintenance.compression import Rules
from outlast.storage.sqlite.maintenance.read_leases import KEPT_S, ReadLeases
from outlast.storage.sqlite.maintenance.scheduler import MaintenanceScheduler, Policy


def sqlite_storage(path: Path, *, durable: bool = True) -> SqliteStorage:
    storage = storage_from_url(f"sqlite:///{path}", durable=durable)
    assert isinstance(storage, SqliteStorage)
    return storage


def commit_each(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Commit changes one by one: then each chunk has a row of its own."""
    for change in changes:
        commit(db, [change])


EVERYTHING = Rules(after_ms=0, least_bytes=1, worth=1000)


def seal_all(db: sqlite3.Connection, rules: Rules = EVERYTHING, now_ms: int = 2**42) -> list[compression.Step]:
    """Seal what is old and waits for no merging, step by step."""
    steps = []
    while step := compression.look(db, rules, now_ms):
        compression.apply(db, compression.compress_all(step.rows, rules), step.upto_id)
        steps.append(step)
    return steps


class EagerStorage(SqliteStorage):
    """Merges whatever can be merged, and then seals everything if asked to, as soon as it is committed."""

    def __init__(self, path: Path, *, durable: bool = True, kept_s: float = KEPT_S, seals: bool = False) -> None:
        super().__init__(path, durable=durable)
        self._places = ReadLeases(kept_s)
        policy = Policy(due_rows=1, least_rows=2, patience_s=0, sealing=EVERYTHING if seals else None)
        self._background = MaintenanceScheduler(self, self._places, policy)

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        handles = await super().commit(changes)
        self._background.begin_sealing()
        await self._background.settled()
        return handles
