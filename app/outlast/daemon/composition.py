"""Store, shim and manager of a locked state folder, for `outlast serve` and `outlast shutdown`."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.core.retention.policy import KEEP_ALL, RetentionPolicy
from outlast.core.supervision.supervisor import BufferLimits
from outlast.linux import descriptors
from outlast.storage import storage_from_url
from outlast.wire.api_socket import ApiSocket

_IN_MEMORY = "memory:"


@contextlib.asynccontextmanager
async def running_manager(
    settings: Settings,
    api_sockets: Sequence[ApiSocket] = (),
    *,
    adopt: bool = False,
    retention: RetentionPolicy = KEEP_ALL,
    in_memory: bool = False,
) -> AsyncIterator[ProcessManager]:
    """Open store and shim, and recover the processes; at the end, leave them to the shim.

    Args:
        settings: the settings of the daemon.
        api_sockets: the sockets of the HTTP API. The shim keeps these, and no others.
        adopt: see `ProcessManager.open`.
        retention: what is deleted, once `ProcessManager.start_retention` is called.
        in_memory: whether a store in memory stands in for that of the settings.

    Raises:
        OutlastError: store or shim cannot be opened.
    """
    descriptors.raise_limit()  # every process has a few, and every client one
    storage = storage_from_url(
        _IN_MEMORY if in_memory else settings.storage_url,
        durable=settings.durable,
        compress_after_s=None if settings.compress == "off" else settings.compress_after_s,
    )
    await storage.open()
    try:
        limits = BufferLimits(
            process_bytes=settings.buffer_limit_bytes,
            memory_bytes=settings.buffer_memory_bytes,
            spool_bytes=settings.buffer_spool_bytes,
        )
        manager = ProcessManager(
            storage,
            settings.state_path,
            limits,
            settings.inherit_env,
            api_sockets,
            store_is_stand_in=in_memory,
            retention=retention,
        )
        try:
            await manager.open(adopt=adopt)
            yield manager
        finally:
            await manager.close()
    finally:
        await storage.close()
