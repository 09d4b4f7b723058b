"""Reading what a terminal shows: the screen first, then each byte as it comes.

A reader is a number: how many bytes of the output are behind it. What is not stored yet is read from the files that the
shim has read it into, everything else from the store. So nothing is kept for a reader that is slow.
"""

import time

from outlast.core.condition import Condition
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.terminals.screen import tail
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import ExitStatus, Process
from outlast.storage import Storage

READ_BYTES = 64 << 10
REPLAY_BYTES = 256 << 10
"""Maximum bytes of what a client is sent to show the screen."""
_SEARCH_BYTES = 1 << 20
"""Maximum bytes in which the modes of the screen are looked for."""
_QUIET_S = 0.5
"""Time without output after which the terminal of a program that has ended is over, though others have it open."""


class TerminalReader:
    """A reader of one run of a process in a terminal.

    Attributes:
        offset: bytes of output, since the process's first start, that are behind the reader.
    """

    def __init__(self, storage: Storage, process: Process, live: LiveProcess | None) -> None:
        """`live`: the run, if it or its output has not ended."""
        self._storage = storage
        self._process = process
        self._live = live
        self._stored_end = 0
        self._seq: int | None = None
        self._quiet_since: float | None = None
        self.offset = 0
        if live is not None and live.read is None:
            live.read = Condition()

    async def show_screen(self) -> tuple[bytes, bool]:
        """Return what shows the screen as it is now, and whether that may lack something. The reader is behind it then.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        end = await self._find_end()
        begin = max(0, end - _SEARCH_BYTES)
        self.offset = begin
        pieces = []
        while self.offset < end and (piece := await self.read()):
            pieces.append(piece)
        output = b"".join(pieces)
        return tail(output, REPLAY_BYTES), len(output) < end or len(output) > REPLAY_BYTES

    async def seek(self, offset: int) -> None:
        """Continue behind the first `offset` bytes of the output, or behind all, if there are fewer.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        self.offset = min(offset, await self._find_end())
        self._seq = None

    async def _find_end(self) -> int:
        self._stored_end = (await self._storage.position(self._process.handle)).stdout_end
        if self._live is None:
            return self._stored_end
        return max(self._live.position.stdout_end, self._live.held.told_to(Stream.STDOUT))

    async def read(self) -> bytes:
        """Return the next bytes; empty if there are none now.

        Where output is missing (it is lost, or was deleted because of a limit), `offset` rises by more than these.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        if self._live is not None:
            data = self._live.held.peek(Stream.STDOUT, self.offset, READ_BYTES)
            if data is not None:
                if data:
                    self.offset += len(data)
                    self._seq = self._quiet_since = None
                return data
            self._stored_end = self._live.position.stdout_end
        return await self._read_stored() if self.offset < self._stored_end else b""

    async def _read_stored(self) -> bytes:
        if self._seq is None:
            self._seq = await self._find_seq()
        pieces: list[bytes] = []
        while not pieces:
            found = await self._chunks(self._seq, READ_BYTES)
            if not found:  # purged, or all that is left is missing
                self.offset = self._stored_end
                break
            for chunk in found:
                begin = chunk.stdout_end - len(chunk.data)
                if pieces and begin > self.offset:  # what is missing is missing in front of what is returned
                    break
                if chunk.stdout_end > self.offset:
                    if data := chunk.data[max(0, self.offset - begin) :]:
                        pieces.append(data)
                    self.offset = chunk.stdout_end
                self._seq = chunk.last_seq
        return b"".join(pieces)

    async def _chunks(self, after_seq: int, max_bytes: int) -> list[Chunk]:
        query = ChunkQuery(handle=self._process.handle, max_bytes=max_bytes, after_seq=after_seq, stream=Stream.STDOUT)
        return await self._storage.chunks(query)

    async def _find_seq(self) -> int:
        """Return a sequence number behind which the byte at `offset` comes soon."""
        before, behind = 0, (await self._storage.position(self._process.handle)).last_seq
        while behind - before > 1:
            middle = (before + behind) // 2
            found = await self._chunks(middle, 1)
            if found and found[0].stdout_end - len(found[0].data) <= self.offset:
                before = middle
            else:
                behind = middle
        return before

    async def wait(self) -> None:
        """Wait until there is more to read, or the program may have ended."""
        live = self._live
        if live is None or live.read is None or live.finished:
            return
        had_ended = live.end_stored

        def has_changed() -> bool:
            return self._has_more(live) or live.finished or live.end_stored is not had_ended

        await live.read.wait(has_changed, _QUIET_S / 4 if had_ended else None)

    def _has_more(self, live: LiveProcess) -> bool:
        return max(live.position.stdout_end, live.held.told_to(Stream.STDOUT)) > self.offset

    def has_ended(self) -> bool:
        """Return whether the program has ended, and nothing more comes. To be called after a read without result."""
        live = self._live
        if live is None:
            return True
        if live.finished:
            return self.offset >= live.position.stdout_end
        if not live.end_stored:
            return False
        if self._quiet_since is None:
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since >= _QUIET_S

    async def ending(self) -> ExitStatus | None:
        """Return how the run ended. None: nobody knows.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        if self._live is not None and self._live.ending is not None:
            return self._live.ending
        stored = await self._storage.process(self._process.handle)
        return None if stored is None else stored.run.ending
