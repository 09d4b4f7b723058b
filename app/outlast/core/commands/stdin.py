"""Writing to processes' standard input."""

import asyncio
from collections.abc import AsyncIterator

from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import Interrupted, NotRunning, OutlastError, StdinNotWritable, Unavailable
from outlast.model.process import StdinMode
from outlast.shimlink import NotSent

_PIECE_BYTES = 64 << 10


class StandardInput:
    """The standard inputs of all processes, written through the shim."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def write(self, live: LiveProcess, data: AsyncIterator[bytes]) -> None:
        """Write to a process's standard input. Return when every byte is in the pipe.

        Writers of one process take turns, each with its whole data. A process that does not read blocks only its own
        writers, and the daemon holds at most one piece of 64 KiB for it.

        Raises:
            NotRunning: the process has ended, perhaps during the write.
            StdinNotWritable: its standard input is not a pipe, or is closed.
            Interrupted: the shim was lost during the write. `details` says how much was written.
            ShimUnavailable: the shim cannot be reached now; nothing was written.
        """
        _check(live)
        await live.stdin_lock.acquire()
        piece: asyncio.Task[None] | None = None
        written = sent = 0
        try:
            async for block in data:
                for start in range(0, len(block), _PIECE_BYTES):
                    _check(live)
                    part = block[start : start + _PIECE_BYTES]
                    link = self._supervisor.link
                    piece = asyncio.create_task(link.write_stdin(live.slot, part))
                    sent += len(part)
                    await asyncio.shield(piece)
                    written = sent
        except OutlastError as exc:
            if isinstance(exc, NotSent):
                sent = written
            if sent:
                raise _cut_short(exc, written, sent) from exc
            raise
        finally:
            # If the caller is cancelled while a piece is on its way, the next writer has to wait for that piece.
            if piece is None or piece.done():
                live.stdin_lock.release()
            else:
                piece.add_done_callback(lambda _task: live.stdin_lock.release())
                piece.add_done_callback(_retrieve_error)

    async def close(self, live: LiveProcess) -> None:
        """Close a process's standard input after what has been written.

        Raises:
            NotRunning: the process has ended.
            StdinNotWritable: its standard input is not a pipe, or is closed already.
        """
        _check(live)
        if live.spec.options.terminal is not None:
            raise StdinNotWritable("the input of a terminal has no end: write a byte 4 (Ctrl-D), as a keyboard does")
        await repeatable.ask(self._supervisor, lambda link: link.close_stdin(live.slot))
        live.on_stdin_closed()


def _cut_short(error: OutlastError, written: int, sent: int) -> OutlastError:
    """Return `error`, or what it is to a client whose input was written in part, with the number of bytes."""
    if isinstance(error, Unavailable):
        error = Interrupted(
            f"of the input, at least {written} and at most {sent} bytes were written, and then a step failed: {error}"
        )
    error.details = {"written_bytes": written, "written_bytes_at_most": sent}
    return error


def _check(live: LiveProcess) -> None:
    if live.ended:
        raise NotRunning(f"process {live.run.pid} has ended: its record says how")
    if live.spec.stdin_mode is not StdinMode.PIPE:
        raise StdinNotWritable('the standard input of the process is not a pipe: start it with "stdin_mode": "pipe"')
    if not live.stdin_open:
        raise StdinNotWritable("the standard input of the process is closed")


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a piece without a waiting caller, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
