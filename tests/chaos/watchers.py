"""Callers that stay with one process over all daemons: one that ran it, one that waits, and an official client."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from tensorlake.sandbox import AsyncSandbox, SandboxError

from harness.http_client import BROKEN, read_events
from tests.chaos.daemon_client import TOKEN, DaemonClient, is_interrupted

_LOOK_AGAIN_S = 0.01
_WAIT_S = 30


@dataclass(slots=True)
class RunCaller:
    """A caller of `run` that comes back with its key until it has the whole stream.

    Attributes:
        lines: the lines of the stream that was whole, by stream.
        end: the last event of that stream; None: there was none yet.
        broken: streams that were cut short.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    end: dict[str, Any] | None = None
    broken: int = 0

    async def run(self, client: DaemonClient, body: dict[str, Any], on_started: Callable[[str], None]) -> None:
        """Run a command to its end. `on_started` is called with the id of the process, once for each stream.

        Raises:
            aiohttp.ClientConnectorError: no daemon listens: the request was never sent.
            aiohttp.ClientResponseError: the daemon refuses the request.
        """
        url = f"{client.url}{client.root}/processes/run?detach=true"
        self.lines = {"stdout": [], "stderr": []}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with client.session.post(url, json=body, timeout=timeout) as response:
            if not response.ok and is_interrupted(await response.json()):
                return
            response.raise_for_status()
            with contextlib.suppress(*BROKEN):
                async with contextlib.aclosing(read_events(response.content)) as events:
                    async for event in events:
                        if "pid" in event.data:
                            on_started(event.data["id"])
                        elif "line" in event.data:
                            self.lines[event.data["stream"]].append(event.data["line"])
                        elif "reason" in event.data:
                            self.end = event.data
                            return
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
