"""What became of a start that is recorded."""

from outlast.core.commands.start_request import explain
from outlast.core.supervision.live_process import LiveProcess
from outlast.shimlink import SpawnRefused

_WITHDRAWN_S = 2.0


async def started(live: LiveProcess) -> None:
    """Wait until it is known what became of a start that is recorded.

    Raises:
        SpawnFailed: its program could not be run; what was recorded of it is withdrawn, or will be.
    """
    await live.wait(lambda: live.started or live.failed is not None)
    if live.failed is not None:
        await live.wait(lambda: live.finished, _WITHDRAWN_S)
        raise explain(SpawnRefused(*live.failed), live.spec)
