"""Store and shim of a locked state folder: what `outlast serve` serves, and `outlast down` ends."""

import contextlib
from collections.abc import AsyncIterator

from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.core.supervision.buffer_limits import BufferLimits
from outlast.storage import storage_from_url


@contextlib.asynccontextmanager
async def running_manager(settings: Settings) -> AsyncIterator[ProcessManager]:
    """Open store and shim for a locked state folder, take up what runs there, and leave it to the shim at the end.

    Raises:
        OutlastError: it can't be done; the sentence says why.
    """
    storage = storage_from_url(
        settings.storage_url, durable=settings.durable, compress_after_s=settings.compress_after_s
    )
    await storage.open()
    try:
        room = BufferLimits(
            process_bytes=settings.shim_room_bytes,
            memory_bytes=settings.shim_memory_bytes,
            spool_bytes=settings.shim_spool_bytes,
        )
        manager = ProcessManager(storage, settings.state_path, room, settings.inherit_env)
        try:
            await manager.open()
            yield manager
        finally:
            await manager.close()
    finally:
        await storage.close()
