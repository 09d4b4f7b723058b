"""Ending everything in a state folder, also when what is under test can't do it."""

import os
import signal

from tests.support.daemon import Daemon, shim_pid


async def end_everything(daemon: Daemon) -> list[str]:
    """End daemon, processes and shim, and return what was wrong with that."""
    shim = shim_pid(daemon.state_dir)
    try:
        await daemon.end_everything()
    except (AssertionError, TimeoutError) as exc:
        if shim is not None and shim == shim_pid(daemon.state_dir):
            os.kill(shim, signal.SIGKILL)  # its children end when nobody reads them
        return [f"`outlast down` failed: {exc!r}"]
    return []
