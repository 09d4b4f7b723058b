"""The base of all parts of the conformance suite."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from outlast.model.output import ChunkQuery, Stream
from outlast.storage.base import Storage

EVERYTHING_BYTES = 1 << 30
AWKWARD = bytes(range(256)) + b"\r\n\n\n\xff\xfe\0\n" + 'tab\t"quote" \\n \u2028 \N{PILE OF POO}\n'.encode()


@pytest.mark.asyncio
class StorageSuite:
    """A base class with the hooks that a plug-in's author overrides, and the fixture that every test uses."""

    persistent: ClassVar[bool] = True
    """Whether a second `make_storage(folder)`, after the first was closed, finds what was committed."""

    durable: ClassVar[bool] = True
    """Whether the storages of `make_storage` are to survive a loss of power (`from_url(durable=True)`, the default)."""

    def make_storage(self, folder: Path) -> Storage:
        """Return a closed storage with its data in `folder`, which is empty and belongs to this test."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        """Give each test an open, empty storage."""
        storage = self.make_storage(tmp_path)
        await storage.open()
        yield storage
        await storage.close()


async def read_lines(storage: Storage, handle: int, *, after: int = 0, stream: Stream | None = None) -> list[bytes]:
    """Return the lines of a process after the sequence number `after`."""
    chunks = await storage.chunks(ChunkQuery(handle=handle, after_seq=after, max_bytes=EVERYTHING_BYTES, stream=stream))
    return [line for chunk in chunks for line in chunk.lines()]
