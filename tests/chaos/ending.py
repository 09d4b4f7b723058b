"""Ending everything in a state folder, also when what is under test can't do it."""

import os
import signal

from app.model.errors import OutlastError
from app.shim import lock
from tests.support.daemon import Daemon


async def end_everything(daemon: Daemon) -> list[str]:
    """End daemon, processes and shim, and return what was wrong with that."""
    path = daemon.state_dir / lock.SHIM_LOCK_NAME
    shim = lock.holder(path)
    try:
        await daemon.end_everything()
    except (AssertionError, TimeoutError, OutlastError) as exc:
        if shim is not None and shim == lock.holder(path):
            os.kill(shim, signal.SIGKILL)  # its children end when nobody reads them
        return [f"`outlast down` failed: {exc!r}"]
    return [] if lock.holder(path) is None else ["the shim still runs after `outlast down`"]
