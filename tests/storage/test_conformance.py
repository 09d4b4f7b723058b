"""The built-in plug-ins, found through their entry points like all others, pass the conformance suite."""

from pathlib import Path

import pytest

from outlast.storage.base import Storage
from outlast.storage.registry import storage_from_url
from outlast.testing.storage.conformance import StorageConformance
from outlast.testing.storage.stateful import check_against_model
from tests.storage.stores import EagerStorage, FloodStorage


class TestMemory(StorageConformance):
    persistent = False

    def make_storage(self, folder: Path) -> Storage:  # noqa: ARG002 - memory has no folder
        return storage_from_url("memory:")


class TestSqlite(StorageConformance):
    def make_storage(self, folder: Path) -> Storage:
        return storage_from_url(f"sqlite:///{folder}/outlast.db")


class TestSqliteCompaction(StorageConformance):
    """Output reads the same while its rows are merged."""

    durable = False

    def make_storage(self, folder: Path) -> Storage:
        return EagerStorage(folder / "outlast.db", durable=False)


class TestSqliteCompression(StorageConformance):
    """Output reads the same while its rows are merged and compressed."""

    durable = False

    def make_storage(self, folder: Path) -> Storage:
        return EagerStorage(folder / "outlast.db", durable=False, compresses=True)


class TestSqliteFlood(StorageConformance):
    """Output reads the same when its rows are compressed as they are stored."""

    durable = False

    def make_storage(self, folder: Path) -> Storage:
        return FloodStorage(folder / "outlast.db", durable=False)


@pytest.mark.slow
def test_memory_behaves_like_the_model() -> None:
    check_against_model(lambda _: storage_from_url("memory:"), persistent=False)


@pytest.mark.slow
def test_sqlite_behaves_like_the_model() -> None:
    check_against_model(
        lambda folder: storage_from_url(f"sqlite:///{folder}/outlast.db", durable=False),
        persistent=True,
        examples=30,
        steps=30,
    )


@pytest.mark.slow
def test_sqlite_behaves_like_the_model_while_rows_are_compressed_at_once() -> None:
    check_against_model(
        lambda folder: FloodStorage(folder / "outlast.db", durable=False), persistent=True, examples=15, steps=30
    )


@pytest.mark.slow
@pytest.mark.parametrize("compresses", [False, pytest.param(True, marks=pytest.mark.long)])
def test_sqlite_behaves_like_the_model_while_rows_change(*, compresses: bool) -> None:
    check_against_model(
        lambda folder: EagerStorage(folder / "outlast.db", durable=False, lease_s=0, compresses=compresses),
        persistent=True,
        examples=15,
        steps=30,
    )
