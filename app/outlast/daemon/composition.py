"""Store, shim and manager of a locked state folder, for `outlast serve` and `outlast down`."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.core.supervision.supervisor import BufferLimits
from outlast.storage import storage_from_url
from outlast.wire.api_socket import ApiSocket


@contextlib.asynccontextmanager
async def running_manager(settings: Settings, api_sockets: Sequence[ApiSocket] = ()) -> AsyncIterator[ProcessManager]:
    """Open store and shim, and recover the processes; at the end, leave them to the shim.

    Args:
        settings: the settings of the daemon.
        api_sockets: the sockets of the HTTP API. The shim keeps these, and no others.

    Raises:
        OutlastError: store or shim cannot be opened.
    """
    storage = storage_from_url(
        settings.storage_url, durable=settings.durable, compress_after_s=settings.compress_after_s
    )
    await storage.open()
    try:
        limits = BufferLimits(
            process_bytes=settings.buffer_limit_bytes,
            memory_bytes=settings.buffer_memory_bytes,
            spool_bytes=settings.buffer_spool_bytes,
        )
        manager = ProcessManager(storage, settings.state_path, limits, settings.inherit_env, api_sockets)
        try:
            await manager.open()
            yield manager
        finally:
            await manager.close()
    finally:
        await storage.close()
