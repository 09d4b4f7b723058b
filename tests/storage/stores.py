"""The storages under test."""

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from outlast.storage.base import Change
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import SqliteStorage
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.maintenance.compression import (
    CompressionPlan,
    CompressionRules,
    apply_compression,
    compress_rows,
    plan_compression,
)
from outlast.storage.sqlite.maintenance.read_leases import LEASE_S, ReadLeases
from outlast.storage.sqlite.maintenance.scheduler import MaintenancePolicy, MaintenanceScheduler


def sqlite_storage(path: Path, *, durable: bool = True) -> SqliteStorage:
    storage = storage_from_url(f"sqlite:///{quote(str(path))}", durable=durable)
    assert isinstance(storage, SqliteStorage)
    return storage


def commit_each(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Commit changes one by one, so that each chunk has a row of its own."""
    for change in changes:
        commit(db, [change])


EVERYTHING = CompressionRules(after_ms=0, min_bytes=1, max_ratio=1000)


def compress_all(
    db: sqlite3.Connection, rules: CompressionRules = EVERYTHING, now_ms: int = 2**42
) -> list[CompressionPlan]:
    """Compress all old rows that cannot be merged, step by step."""
    plans = []
    while plan := plan_compression(db, rules, now_ms):
        apply_compression(db, compress_rows(plan.rows, rules), plan.upto_id)
        plans.append(plan)
    return plans


class FloodStorage(SqliteStorage):
    """A storage that compresses each row when it is stored, as others do with those of a flood."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._compress_flood = zlib.compress


class EagerStorage(SqliteStorage):
    """A storage that merges all it can as soon as it is committed, and then compresses everything if `compresses`."""

    def __init__(self, path: Path, *, durable: bool = True, lease_s: float = LEASE_S, compresses: bool = False) -> None:
        super().__init__(path, durable=durable)
        self._leases = ReadLeases(lease_s)
        policy = MaintenancePolicy(
            due_rows=1, min_rows=2, commit_wait_s=0, compression=EVERYTHING if compresses else None
        )
        self._maintenance = MaintenanceScheduler(self, self._leases, policy)

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        handles = await super().commit(changes)
        self._maintenance.start_compression()
        await self._maintenance.wait_idle()
        return handles
