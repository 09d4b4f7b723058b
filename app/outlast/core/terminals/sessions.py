"""Sessions of terminals: a second face of processes that have a terminal, for clients that type and look.

A session is a process: it has its id, and lives as long. Clients find it for a minute after its end; the process stays.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import signal
import struct
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.stdin import StandardInput
from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.core.terminals.reader import TerminalReader
from outlast.core.views import StartOutcome
from outlast.model.clock import now_ms
from outlast.model.errors import InvalidToken, NotFound, NotRunning, OutlastError, TooManySessions
from outlast.model.event import EventFilter, EventType
from outlast.model.options import Terminal
from outlast.model.output import Stream
from outlast.model.process import Process
from outlast.model.resize import Resize
from outlast.shimlink import ShimLink
from outlast.storage import ResizeTerminal, Storage

log = logging.getLogger(__name__)

MAX_SESSIONS = 1000
"""Maximum number of terminals that run. The system has 4096 by default, for all programs."""
KEPT_MS = 60_000
"""Time for which the session of a program that has ended is shown."""
MAX_ROWS, MAX_COLS = 500, 1000
_HANG_UP_S = 5.0
"""Time between SIGHUP and SIGKILL."""
_KILL_RETRY_S = 1.0
_SIZE_S = 0.1
"""Time for which a size is waited with before it is recorded: who drags a window sends many."""
_MAX_ENDED = 1000
"""Maximum number of ends that are looked through for sessions to list."""
_TOKEN_BYTES = 32
_ENDS = frozenset({EventType.EXITED, EventType.LOST})


@dataclass(frozen=True, slots=True)
class Session:
    """A session: its process, and its run, if that or its output has not ended. `rows` and `cols` are those of now."""

    process: Process
    live: LiveProcess | None
    rows: int
    cols: int

    @property
    def is_alive(self) -> bool:
        """Whether the program runs."""
        return self.live is not None and not self.live.ended


class Sessions:
    """The sessions of one daemon."""

    def __init__(
        self,
        storage: Storage,
        supervisor: Supervisor,
        committer: Committer,
        stdin: StandardInput,
        *,
        start: Callable[[StartRequest], Awaitable[StartOutcome]],
        kill: Callable[[str], Awaitable[Any]],
    ) -> None:
        """Make the sessions of a daemon.

        Args:
            storage: the store.
            supervisor: the live processes.
            committer: commits output soon while clients see it.
            stdin: writes what clients type.
            start: starts a process.
            kill: ends a process and its tree, by id.
        """
        self._storage = storage
        self._supervisor = supervisor
        self._committer = committer
        self._stdin = stdin
        self._start = start
        self._kill = kill
        self._deleted: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resized: dict[int, Resize] = {}

    def interrupt(self) -> None:
        """Leave kills to the next daemon, and record sizes: the daemon is stopping."""
        for task in self._tasks:
            task.cancel()
        for handle in tuple(self._resized):
            self._record_size(handle)

    # ---- life of a session

    async def create(self, request: StartRequest) -> tuple[str, str]:
        """Start a program in a terminal, which `request.options` has, and return the session's id and token.

        Raises:
            TooManySessions: too many terminals are open; nothing was started.
            OutlastError: the program could not be started; see `ProcessManager.start`.
        """
        if sum(live.spec.options.terminal is not None and not live.ended for live in self._supervisor) >= MAX_SESSIONS:
            raise TooManySessions(f"{MAX_SESSIONS} terminals are open: end one with DELETE, then create another")
        token = secrets.token_hex(_TOKEN_BYTES)
        terminal = replace(request.options.terminal or Terminal(), token_hash=_hash(token))
        outcome = await self._start(replace(request, options=replace(request.options, terminal=terminal)))
        return outcome.view.process.spec.id, token

    async def find(self, session_id: str) -> Session:
        """Find a session.

        Raises:
            NotFound: there is none, or it ended more than a minute ago, or was deleted and has ended.
        """
        process = await self._storage.process_by_id(session_id)
        session = None if process is None else await self._session(process)
        if session is None:
            raise NotFound(
                f"there is no session {session_id!r}: use an id from the list of sessions, which shows one for a "
                "minute after its end"
            )
        return session

    async def _session(self, process: Process) -> Session | None:
        terminal = process.spec.options.terminal
        live = self._supervisor.get(process.spec.id)
        if terminal is None:
            return None
        if live is None or live.ended:
            ending = live.ending if live is not None else process.run.ending
            if process.spec.id in self._deleted or (ending and ending.ended_at_ms < now_ms() - KEPT_MS):
                return None
        size = _size(live) if live is not None else None
        if size is None:
            last: Resize | Terminal = next(reversed(await self.sizes(process)), terminal)
            size = last.rows, last.cols
        return Session(process, live, *size)

    async def all(self) -> list[Session]:
        """Return the sessions, oldest first."""
        ids = [live.spec.id for live in self._supervisor if live.spec.options.terminal is not None and live.handle]
        just_ended = EventFilter(types=_ENDS, since_ms=now_ms() - KEPT_MS)
        after = await self._storage.event_tail(_MAX_ENDED, just_ended)
        ids += [event.process_id for event in (await self._storage.events(after, _MAX_ENDED, just_ended)).events]
        found = {}
        for process_id in dict.fromkeys(ids):
            process = await self._storage.process_by_id(process_id)
            session = None if process is None else await self._session(process)
            if session is not None:
                found[session.process.handle] = session
        return [found[handle] for handle in sorted(found)]

    async def delete(self, session_id: str) -> None:
        """Hang a terminal up: its program gets SIGHUP now, and its whole tree SIGKILL after its end, or after 5 s.

        The shim does that, too, so that it is done if this daemon dies meanwhile.

        Raises:
            NotFound: see `find`.
        """
        session = await self.find(session_id)
        now = time.monotonic()
        self._deleted = {key: at for key, at in self._deleted.items() if now - at < 2 * KEPT_MS / 1000}
        is_new, live = session_id not in self._deleted, session.live
        self._deleted[session_id] = now
        if is_new and live is not None and not live.finished:
            if not live.spec.is_managed:  # else its supervision has to end, before it ends
                with contextlib.suppress(OutlastError, PermissionError):
                    await repeatable.ask(self._supervisor, lambda link: _hang_up(link, live))
            task = asyncio.create_task(self._kill_hung_up(live), name=f"hang up {session_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _kill_hung_up(self, live: LiveProcess) -> None:
        if not live.spec.is_managed:
            await live.wait(lambda: live.ended, _HANG_UP_S)
        while True:
            try:
                await self._kill(live.spec.id)
            except NotFound:
                return
            except OutlastError as exc:
                log.warning("the terminal %s is not killed yet: %s", live.spec.id, exc)
                await asyncio.sleep(_KILL_RETRY_S)
            else:
                return

    # ---- clients

    def check_token(self, session: Session, token: str) -> None:
        """Check a session's token.

        Raises:
            InvalidToken: it is wrong.
        """
        terminal = session.process.spec.options.terminal
        expected = terminal.token_hash if terminal is not None else None
        if expected is None or not hmac.compare_digest(_hash(token), expected):
            raise InvalidToken("the token is not that of this session: send the one that came with its session_id")

    @contextlib.contextmanager
    def reading(self, session: Session) -> Any:
        """Yield a reader of a session. While there is one, output is committed as soon as followers' is."""
        with self._committer.watching(session.process.handle):
            yield TerminalReader(self._storage, session.process, session.live)

    def type_now(self, session: Session, data: memoryview) -> int:
        """Type what the terminal takes at once, and return how many bytes that is; 0 if anything is on its way to it.

        The daemon has the terminal open, too, so that a key need not pass the shim.
        """
        live = session.live
        if live is None or live.ended or live.stdin_lock.locked() or (fd := _master(live)) is None:
            return 0
        try:
            return os.write(fd, data)
        except OSError:  # it is full, or has just been hung up: `write` waits, or tells
            return 0

    async def write(self, session: Session, data: bytes) -> None:
        """Type `data`. Return when the terminal has taken it.

        Raises:
            NotRunning: the program has ended.
            OutlastError: see `StandardInput.write`.
        """
        if session.live is None:
            raise NotRunning("the program in the terminal has ended")
        await self._stdin.write(session.live, _once(data))

    def resize(self, session: Session, rows: int, cols: int) -> None:
        """Change the size of a terminal, which is cut to what terminals can have; its programs hear of it."""
        live = session.live
        if live is None or (fd := _master(live)) is None:
            return
        wanted = (min(max(rows, 1), MAX_ROWS), min(max(cols, 1), MAX_COLS))
        if _size(live) != wanted:
            with contextlib.suppress(termios.error, OSError):  # it has just been hung up
                termios.tcsetwinsize(fd, wanted)
                self._record_size_soon(live, *wanted)

    def _record_size_soon(self, live: LiveProcess, rows: int, cols: int) -> None:
        before = self._resized.get(live.handle)
        ts_ms = now_ms() if before is None else before.ts_ms
        self._resized[live.handle] = Resize(ts_ms=ts_ms, rows=rows, cols=cols)
        if before is None:
            asyncio.get_running_loop().call_later(_SIZE_S, self._record_size, live.handle)

    def _record_size(self, handle: int) -> None:
        size = self._resized.pop(handle, None)
        if size is not None:
            self._committer.submit(ResizeTerminal(handle, size))

    async def sizes(self, process: Process) -> list[Resize]:
        """Return the sizes that a process's terminal was given after its start.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        return await self._storage.resizes(process.handle)

    def size(self, session: Session) -> tuple[int, int] | None:
        """Return rows and columns of a terminal now. None: it is closed."""
        return None if session.live is None else _size(session.live)

    def ask_to_repaint(self, session: Session) -> None:
        """Make the kernel send SIGWINCH to the programs that are in the foreground of a terminal."""
        live = session.live
        if live is not None and (fd := _master(live)) is not None:
            with contextlib.suppress(OSError):
                _touch_size(fd)


async def _hang_up(link: ShimLink, live: LiveProcess) -> None:
    await link.signal(live.slot, signal.SIGHUP, kill_after_ms=round(_HANG_UP_S * 1000))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _master(live: LiveProcess) -> int | None:
    """Return a descriptor of a terminal's master; None: it is closed."""
    stream = live.held.streams.get(Stream.STDOUT)
    return stream.pipe if stream is not None else None


def _size(live: LiveProcess) -> tuple[int, int] | None:
    fd = _master(live)
    if fd is None:
        return None
    try:
        rows, cols = termios.tcgetwinsize(fd)
    except (termios.error, OSError) as exc:
        if exc.args and exc.args[0] == errno.EIO:
            return None
        raise
    return rows, cols


def _touch_size(fd: int) -> None:
    """Change the size in pixels of a terminal, which hardly a program looks at, and thereby nothing but that."""
    form = struct.Struct("HHHH")
    rows, cols, width, height = form.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(form.size)))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, form.pack(rows, cols, width ^ 1, height))
