"""The command `mcp`, which loads the protocol's SDK when it runs, and no earlier."""

import click

from outlast.cli import garbage
from outlast.cli.connect import HOST

_SDK = ("mcp", "pydantic")


@click.command("mcp", short_help="Serve coding agents: the Model Context Protocol on standard input and output.")
@HOST
def mcp_command(host: str | None) -> None:
    """Serve a coding agent: start, list, read, wait for and end processes by the Model Context Protocol.

    The agent's program starts this command and speaks with it on standard input and output. Processes outlast it.
    """
    try:
        from outlast.cli.mcp.server import serve  # noqa: PLC0415 - no other command needs it, and it takes a second
    except ImportError as exc:
        if not (exc.name or "").startswith(_SDK):
            raise
        raise click.ClickException(
            "`outlast mcp` needs the protocol's SDK, version 2: install it with pip install 'outlast[mcp]'"
        ) from None
    garbage.begin()
    serve(host)
