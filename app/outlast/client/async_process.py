"""A process, inside an event loop. `sync_process.py` is made of this file by `make fix`: change this one."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING

from outlast.client import calls
from outlast.client.async_session import AsyncSession
from outlast.client.items import Gap, Line, milliseconds
from outlast.client.records import ProcessInfo, Run, Stats
from outlast.client.request import Request, process_path
from outlast.client.stored import StoredBytes, StoredLines
from outlast.client.subscription import Follow

if TYPE_CHECKING:
    from outlast.client.async_terminal import AsyncTerminal

Bytes = bytes  # the name, which a method of the class has, too


class AsyncProcess:
    """A process. `info` is what the daemon said last about it; `refresh` asks again."""

    def __init__(self, session: AsyncSession, info: ProcessInfo) -> None:
        self._session = session
        self.info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.id}: {self.info.command}, {self.info.status}>"

    @property
    def id(self) -> str:
        """Permanent id."""
        return self.info.id

    @property
    def pid(self) -> int:
        """Pid of the current or last run."""
        return self.info.pid

    @property
    def name(self) -> str | None:
        """Name; None if it has none."""
        return self.info.name

    async def refresh(self) -> ProcessInfo:
        """Ask for the process as it is now.

        Raises:
            NotFound: it was purged.
        """
        self.info = await self._session.call(calls.look(self.id))
        return self.info

    # ---- output

    async def follow(
        self,
        stream: str = "output",
        *,
        after: int | None = None,
        tail: int | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        give_up_after: float | None = None,
        on_reconnect: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[Line | Gap, None]:
        """Yield the stored output, then new output as it comes, until the process has ended.

        A line whose rest is late, a prompt for instance, comes in parts, each as a `Line`. No line is missing and none
        comes twice, whatever happens to the daemon. Closing the generator closes the connection.

        Args:
            stream: `stdout`, `stderr`, or `output` for both.
            after: start behind the line with this `seq`.
            tail: start this number of lines before the end.
            since: only lines that were read at this time or later (a datetime, or milliseconds since 1970).
            until: only lines that were read at this time or earlier.
            give_up_after: seconds without a connection after which `Disconnected` is raised; None: never.
            on_reconnect: function that is called when a broken stream goes on, with the `seq` behind which it does.

        Raises:
            ProcessGone: the process was purged meanwhile.
        """
        found = self.follow_batches(
            stream,
            after=after,
            tail=tail,
            since=since,
            until=until,
            give_up_after=give_up_after,
            on_reconnect=on_reconnect,
        )
        async with aclosing(found) as batches:
            async for items in batches:
                for item in items:
                    yield item

    async def follow_batches(
        self,
        stream: str = "output",
        *,
        after: int | None = None,
        tail: int | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        give_up_after: float | None = None,
        on_reconnect: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[list[Line | Gap], None]:
        """Yield what `follow` yields in lists, as it comes: for floods, and for what writes once for many lines."""
        query = {"after": after, "tail": tail, "since": milliseconds(since), "until": milliseconds(until)}
        newest = 0 if tail is None else (await self.refresh()).output.last_seq
        path = process_path(self.id, f"/{stream}/follow")
        follow = Follow(path, query, newest=newest, give_up_after_s=give_up_after, on_reconnect=on_reconnect)
        async with aclosing(self._session.batches(follow)) as batches:
            async for items in batches:
                yield items

    async def lines(
        self,
        stream: str = "output",
        *,
        after: int | None = None,
        before: int | None = None,
        tail: int | None = None,
        limit: int | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        grep: str | None = None,
        regex: bool = False,
        ignore_case: bool = False,
    ) -> AsyncGenerator[Line | Gap, None]:
        """Yield the output that is stored now, in whole lines.

        Args:
            stream: `stdout`, `stderr`, or `output` for both.
            after: start behind the line with this `seq`.
            before: end before the line with this `seq`; with `limit`, the last lines before it.
            tail: start this number of lines before the end.
            limit: maximum number of lines.
            since: only lines that were read at this time or later (a datetime, or milliseconds since 1970).
            until: only lines that were read at this time or earlier.
            grep: only lines that contain this text, or match this expression of RE2.
            regex: whether `grep` is an expression.
            ignore_case: whether upper and lower case are the same in `grep`.
        """
        query = {
            "after": after,
            "before": before,
            "tail": tail,
            "limit": limit,
            "since": milliseconds(since),
            "until": milliseconds(until),
            "grep": grep,
            "regex": regex or None,
            "ignore_case": ignore_case or None,
        }
        stored = StoredLines(process_path(self.id, f"/{stream}"), query, self._session.give_up_after_s)
        async with aclosing(self._session.batches(stored)) as batches:
            async for items in batches:
                for item in items:
                    yield item

    async def byte_chunks(
        self,
        stream: str = "output",
        *,
        after: int | None = None,
        tail: int | None = None,
        limit: int | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        on_trimmed: Callable[[int, int], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the output that is stored now, exactly as it was written, in pieces of any size.

        Args:
            stream: as in `lines`.
            after: as in `lines`.
            tail: as in `lines`.
            limit: as in `lines`.
            since: as in `lines`.
            until: as in `lines`.
            on_trimmed: function that is called before the first piece if output before it was deleted because of a
                limit, with the numbers of lines and bytes of the process that were.

        Raises:
            OutputTrimmed: output was deleted while it was read.
        """
        query = {
            "after": after,
            "tail": tail,
            "limit": limit,
            "since": milliseconds(since),
            "until": milliseconds(until),
        }
        stored = StoredBytes(process_path(self.id, f"/{stream}"), query, self._session.give_up_after_s, on_trimmed)
        async with aclosing(self._session.batches(stored)) as batches:
            async for items in batches:
                for item in items:
                    yield item

    async def bytes(self, stream: str = "output") -> bytes:
        """Return the output that is stored now, exactly as it was written."""
        async with aclosing(self.byte_chunks(stream)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    # ---- waiting

    async def wait(self, timeout: float | None = None) -> ProcessInfo:
        """Wait until the process has ended, and return it as it is then.

        Raises:
            TimeoutError: it has not ended in `timeout` seconds.
        """
        self.info = await self._session.call(calls.wait_for_exit(self.id, timeout))
        return self.info

    async def wait_for_output(
        self,
        pattern: str,
        *,
        regex: bool = True,
        stream: str | None = None,
        after: int | None = None,
        timeout: float | None = None,
    ) -> Line:
        """Wait for a line that matches, and return it. Lines that are stored already count.

        Args:
            pattern: expression of RE2, or text.
            regex: whether `pattern` is an expression.
            stream: `stdout` or `stderr`; None: both.
            after: only lines behind the one with this `seq`.
            timeout: seconds; None: for ever.

        Raises:
            TimeoutError: no line has come in time.
            NotRunning: the process has ended without such a line.
        """
        condition = {"pattern": pattern, "regex": regex, "stream": stream, "after": after}
        return await self._session.call(calls.wait_for_output(self.id, condition, timeout))

    async def wait_for_port(self, port: int, *, timeout: float | None = None) -> None:
        """Wait until something accepts connections on a TCP port of the daemon's machine.

        Raises:
            TimeoutError: nothing has listened in time.
            NotRunning: the process has ended before.
        """
        await self._session.call(calls.wait(self.id, {"until": "port", "port": port}, timeout))

    async def wait_idle(self, seconds: float, *, timeout: float | None = None) -> None:
        """Wait until the process has printed nothing for `seconds`.

        Raises:
            TimeoutError: it has not been silent for so long in time.
            NotRunning: the process has ended before.
        """
        condition = {"until": "idle", "idle_ms": round(seconds * 1000)}
        await self._session.call(calls.wait(self.id, condition, timeout))

    async def wait_healthy(self, *, timeout: float | None = None) -> None:
        """Wait until the run of a managed process, or a later one, is healthy by its check or `ready_log`.

        Raises:
            TimeoutError: it was not healthy in time.
            NotRunning: the process has ended for good before.
            InvalidRequest: it has neither.
        """
        await self._session.call(calls.wait(self.id, {"until": "healthy"}, timeout))

    # ---- terminal

    def attach(
        self, *, give_up_after: float | None = None, on_reconnect: Callable[[int], None] | None = None
    ) -> "AsyncTerminal":
        """Return a client of the process's terminal, which it has if it was started with `tty`.

        Args:
            give_up_after: seconds without a connection after which `Disconnected` is raised; None: never.
            on_reconnect: function that is called when a broken connection is made again, with the number of bytes of
                output behind which it goes on.
        """
        from outlast.client.async_terminal import AsyncTerminal  # noqa: PLC0415 - few programs attach
        from outlast.client.attachment import Attachment  # noqa: PLC0415 - see above

        return AsyncTerminal(self._session, Attachment(self.id, give_up_after, on_reconnect))

    # ---- input

    async def send(self, data: str | Bytes) -> None:
        """Write to standard input, and return when every byte is in the pipe.

        Raises:
            StdinNotWritable: standard input is not a pipe, or is closed.
            NotRunning: the process has ended.
            Interrupted: a part was written, or perhaps; `details` says how much, if that is known.
        """
        await self._session.call(calls.write(self.id, data.encode() if isinstance(data, str) else data))

    async def close_stdin(self) -> None:
        """Close standard input."""
        await self._session.call(calls.close_stdin(self.id))

    # ---- signals and ends

    async def signal(self, signal: str | int, *, scope: str | None = None) -> None:
        """Send a signal.

        Args:
            signal: number or name, such as `TERM`.
            scope: `process`, `group` or `tree`. None: `tree` for SIGKILL, `group` for all others.

        Raises:
            NotRunning: the process has ended.
            Interrupted: the connection broke, and nobody knows whether it was sent.
        """
        await self._session.call(calls.signal(self.id, signal, scope))

    async def stop(self, grace: float | None = None) -> list[str]:
        """Ask the process to end by its stop signal, and kill it and everything it started if it has not in time.

        A managed process is stopped for good. The daemon sees to it, also if this program ends meanwhile.

        Args:
            grace: that time in seconds; None: `stop_grace_ms` of a managed process, and ten seconds for others.

        Returns:
            Warnings of the daemon: what may be left.
        """
        return await self._session.call(calls.stop(await self.refresh(), grace))

    async def kill(self) -> list[str]:
        """Kill the process and everything it started. A managed process is stopped for good, as by `stop`.

        Returns:
            Warnings of the daemon: what may be left.
        """
        return await self._session.call(calls.end(self.id))

    async def remove(self) -> list[str]:
        """Kill the process, and delete its record and its output. This cannot be undone.

        Returns:
            Warnings of the daemon: what may be left.
        """
        return await self._session.call(calls.end(self.id, purge=True))

    async def restart(self) -> ProcessInfo:
        """Restart a managed process, and return it with its new run.

        Raises:
            NotManaged: it is not managed.
            Interrupted: the connection broke, and nobody knows whether it was restarted.
        """
        self.info = await self._session.call(calls.restart(self.id))
        return self.info

    # ---- runs and resource use

    async def runs(self) -> AsyncGenerator[Run, None]:
        """Yield the runs of the process, newest first."""
        async with aclosing(self._session.pages(lambda cursor: calls.runs(self.id, cursor))) as found:
            async for run in found:
                yield run

    async def stats(self, run: int | None = None) -> Stats:
        """Return the resource use of a run; None: of the current or last one."""
        request = Request("GET", process_path(self.id, "/stats"), {"run": run})
        return Stats.from_json(await self._session.call(calls.ask(request)))
