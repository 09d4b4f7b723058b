"""Writing to the standard input of processes."""

import asyncio
from collections.abc import AsyncIterator

from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotRunning, StdinNotWritable
from outlast.model.process import StdinMode

_PIECE_BYTES = 64 << 10


class StandardInput:
    """Writes through the shim."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def write(self, live: LiveProcess, data: AsyncIterator[bytes]) -> None:
        """Write to a process's standard input; return when every byte is in the pipe.

        Writers of one process take turns, each with its whole data. A process that does not read holds up nobody
        but its writers, and at most one piece of 64 KiB of theirs is held for it.

        Raises:
            NotRunning: it has ended, perhaps meanwhile.
            StdinNotWritable: its standard input is no pipe, or closed.
        """
        _check(live)
        await live.stdin_lock.acquire()
        piece: asyncio.Task[None] | None = None
        try:
            async for block in data:
                for start in range(0, len(block), _PIECE_BYTES):
                    _check(live)
                    part = block[start : start + _PIECE_BYTES]
                    piece = asyncio.create_task(self._supervisor.link.write_stdin(live.slot, part))
                    await asyncio.shield(piece)
        finally:
            # A caller may hang up while a piece is on its way: the next writer's turn comes behind it.
            if piece is None or piece.done():
                live.stdin_lock.release()
            else:
                piece.add_done_callback(lambda _task: live.stdin_lock.release())
                piece.add_done_callback(_look_at_outcome)

    async def close(self, live: LiveProcess) -> None:
        """Close a process's standard input behind what has been written.

        Raises:
            NotRunning: it has ended.
            StdinNotWritable: it is no pipe, or closed already.
        """
        _check(live)
        await self._supervisor.link.close_stdin(live.slot)
        live.on_stdin_closed()


def _check(live: LiveProcess) -> None:
    if live.ended:
        raise NotRunning(f"process {live.run.pid} has ended; GET it to see how")
    if live.spec.stdin_mode is not StdinMode.PIPE:
        raise StdinNotWritable('its standard input is no pipe: start it with "stdin_mode": "pipe" to write to it')
    if not live.stdin_open:
        raise StdinNotWritable("its standard input is closed")


def _look_at_outcome(task: asyncio.Task[None]) -> None:
    """Nobody waits for this piece any more: its failure is no news."""
    if not task.cancelled():
        task.exception()
