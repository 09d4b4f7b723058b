"""A storage around another one behaves like that one."""

from pathlib import Path
from typing import Self

from outlast.storage.base import Storage
from outlast.storage.memory import MemoryStorage
from outlast.storage.wrapper import StorageWrapper
from outlast.testing.storage.conformance import StorageConformance


class Wrapper(StorageWrapper):
    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int = 0) -> Self:
        return cls(MemoryStorage.from_url(url, durable=durable, compress_after_s=compress_after_s))


class TestWrapper(StorageConformance):
    persistent = False

    def make_storage(self, folder: Path) -> Storage:  # noqa: ARG002 - memory needs no folder
        return Wrapper.from_url("memory:", durable=True)


def test_every_call_is_forwarded() -> None:
    calls = {name for name in vars(Storage) if not name.startswith("_")} - {"from_url"}
    assert calls <= vars(StorageWrapper).keys()
