"""An agent's end of the protocol: the SDK's own client, and `outlast mcp` as its server."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from tests.cli.commands import environment
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import DEADLINE_S


class Agent:
    """A client with one session."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: object) -> str:
        """Call a tool, and return its answer."""
        text, is_error = await self.try_to(tool, **arguments)
        assert not is_error, text
        return text

    async def try_to(self, tool: str, **arguments: object) -> tuple[str, bool]:
        """Call a tool, and return its answer, and whether it is an error."""
        result = await self.client.call_tool(tool, arguments, read_timeout_seconds=3 * DEADLINE_S)
        (content,) = result.content
        assert isinstance(content, TextContent)
        assert result.structured_content is None
        return content.text, bool(result.is_error)


@contextlib.asynccontextmanager
async def agent(daemon: Daemon, cwd: Path | None = None, **more: str) -> AsyncIterator[Agent]:
    """A new session of an agent."""
    server = StdioServerParameters(
        command=OUTLAST[0], args=[*OUTLAST[1:], "mcp"], env=environment(daemon, **more), cwd=cwd or Path.cwd()
    )
    async with Client(server) as client:
        yield Agent(client)


def quoted(answer: str) -> list[str]:
    """Return the rows of an answer that quote output."""
    return [row for row in answer.split("\n") if row.partition(" ")[0].isdecimal() and "| " in row]
