"""Gaps for tests in which the daemon is real, but what it lost need not be."""

from collections.abc import Callable
from typing import Any

from outlast.storage import Change, storage_from_url
from outlast.testing.storage.samples import Output
from tests.support.daemon import Daemon

Leave = Callable[[Output], list[Change]]


async def leave(daemon: Daemon, process: dict[str, Any], chunks: Leave) -> None:
    """Restart the daemon; meanwhile the store gets what `chunks` makes to follow the process's output."""
    await daemon.stop()
    storage = storage_from_url(f"sqlite:///{daemon.state_dir}/outlast.db")
    await storage.open()
    output = Output(process["handle"], await storage.position(process["handle"]))
    await storage.commit(chunks(output))
    await storage.close()
    await daemon.start()
