"""The end of everything in a state folder, even when the daemon under test fails to do it."""

import os
import signal

from outlast.linux import lock
from outlast.wire.contract import SHIM_LOCK_NAME
from tests.support.daemon import Daemon, outlast


async def end_everything(daemon: Daemon) -> list[str]:
    """End daemon, processes and shim by `outlast shutdown`, and return what was wrong with that."""
    path = daemon.state_dir / SHIM_LOCK_NAME
    shim = lock.holder(path)
    config = daemon.state_dir.parent / "impatient.toml"
    config.write_text("stop_grace_ms = 0\n")
    try:
        if daemon.process is not None:
            await daemon.stop()
        code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir), OUTLAST_CONFIG=str(config))
        assert code == 0, output
    except (AssertionError, TimeoutError) as exc:
        if shim is not None and shim == lock.holder(path):
            os.kill(shim, signal.SIGKILL)  # its children end when nobody reads them
        return [f"`outlast shutdown` failed: {exc!r}"]
    return [] if lock.holder(path) is None else ["the shim still runs after `outlast shutdown`"]
