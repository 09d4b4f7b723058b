"""Callers that stay with one process over all daemons: one that ran it, one that waits, and an official client."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensorlake.sandbox import AsyncSandbox, SandboxError

from harness.http_client import BROKEN, HttpClient
from outlast import AsyncOutlast
from outlast.client import Disconnected, Ended, Line, Started
from outlast.client.running import Running
from tests.chaos.daemon_client import TOKEN, DaemonClient
from tests.support.library import session_over

_LOOK_AGAIN_S = 0.01
_WAIT_S = 30


@dataclass(slots=True)
class RunCaller:
    """A caller of `run` by the Python client, which comes back with its key until it has all of the stream.

    Attributes:
        lines: the lines, by stream.
        end: how the command ended; None: not told yet.
        broken: streams that were cut short.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    end: Ended | None = None
    broken: int = 0

    async def run(self, client: DaemonClient, body: dict[str, Any], on_started: Callable[[str], None]) -> None:
        """Run a command to its end. `on_started` is called with the id of the process.

        Raises:
            OutlastError: the daemon refuses the request, or was never reached.
        """

        async def connected() -> HttpClient:
            await client.wait_for_daemon()
            return client

        self.lines = {"stdout": [], "stderr": []}
        running = Running(json.dumps(body).encode(), None, self._came_back)
        async with contextlib.aclosing(session_over(connected).batches(running)) as batches:
            async for items in batches:
                for item in items:
                    if isinstance(item, Started):
                        on_started(item.id)
                    elif isinstance(item, Line):
                        self.lines[item.stream].append(item.text)
                    elif isinstance(item, Ended):
                        self.end = item

    def _came_back(self, _: int) -> None:
        self.broken += 1


async def wait_for_exit(client: DaemonClient, process_id: str) -> dict[str, Any]:
    """Wait until a process has ended, over as many daemons as that takes. Return the process as the answer shows it."""
    while True:
        await client.wait_for_daemon()
        try:
            answer = await client.request("GET", f"/processes/{process_id}/wait?until=exit&timeout={_WAIT_S}")
        except BROKEN:
            await asyncio.sleep(_LOOK_AGAIN_S)
            continue
        if answer.status == 200 and answer.json["met"]:
            ended: dict[str, Any] = answer.json["process"]
            return ended
        if answer.status not in {200, 503}:
            raise AssertionError(f"wait: {answer.status} {answer.body!r}")
        await asyncio.sleep(_LOOK_AGAIN_S)


@dataclass(slots=True)
class OfficialFollower:
    """A follower by the official Python client, which reconnects by itself, and is asked again when it gives up.

    Attributes:
        lines: stream and line of each event of the call that came to its end; None: none did.
        errors: calls that ended with an error.
    """

    lines: list[tuple[str | None, str]] | None = None
    errors: int = 0

    async def run(self, client: DaemonClient, process_id: str) -> None:
        """Follow until a call returns: the client must take nothing for the end that is not."""
        while self.lines is None:
            await client.wait_for_daemon()
            async with AsyncSandbox("local", proxy_url=client.url, api_key=TOKEN) as sandbox:
                try:
                    events = await sandbox.follow_output(process_id)
                except SandboxError:
                    self.errors += 1
                    await asyncio.sleep(_LOOK_AGAIN_S)
                else:
                    self.lines = [(event.stream, event.line) for event in events]


@dataclass(slots=True)
class TerminalViewer:
    """A client of a terminal, which attaches once and connects again by itself.

    Attributes:
        shown: everything that the terminal showed.
        has_ended: whether the client was told the end.
    """

    shown: bytearray = field(default_factory=bytearray)
    has_ended: bool = False

    async def run(self, client: DaemonClient, process_id: str) -> None:
        """See the terminal to its end."""
        while not self.has_ended:
            await client.wait_for_daemon()
            async with AsyncOutlast(client.url, TOKEN, give_up_after=None) as ol:
                try:
                    process = await ol.process(process_id)
                    async for piece in process.attach().output():
                        self.shown += piece
                except Disconnected:  # no daemon was reached, before anything was shown
                    await asyncio.sleep(_LOOK_AGAIN_S)
                else:
                    self.has_ended = True
