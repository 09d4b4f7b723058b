"""The commands `serve`, `init`, `down`, `sql` and `shim upgrade`.

Each command imports what it needs when it runs: most of the time that `serve` takes to start is spent on imports that
no other command needs, and `init`, which a container waits for, needs hardly any.
"""

import logging
import os
import sys
from typing import Any

import click

from outlast.cli.init import become_init, merge_flag, serve_flags
from outlast.config import Settings, load_settings
from outlast.daemon.state_folder import TOKEN_NAME
from outlast.model.errors import OutlastError

_STATE_DIR = click.option("--state-dir", metavar="DIR", help="State folder: database, token, socket of the shim.")
_CONFIG = click.option("--config", metavar="FILE", help="TOML file with settings; see docs/configuration.md.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outlast")
def main() -> None:
    """Start, watch and signal background processes over HTTP, and keep every line they print."""


@main.command("serve", short_help="Run the daemon.")
@click.option("--listen", metavar="HOST:PORT", help="Address of the HTTP API; port 0: any free port. [127.0.0.1:9501]")
@_STATE_DIR
@_CONFIG
def serve_command(listen: str | None, state_dir: str | None, config: str | None) -> None:
    """Run the daemon. Processes keep running when the daemon stops; `outlast down` stops everything."""
    from outlast.daemon.serve import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(config, listen=listen, state_dir=state_dir)

    def announce(address: str) -> None:
        click.echo(f"listening on {address}")
        sys.stdout.flush()
        token = "OUTLAST_TOKEN" if settings.token else str(settings.state_path / TOKEN_NAME)
        click.echo(f"the token is in {token}", err=True)

    running = _run(serve(settings, announce))
    count = "1 process keeps" if running == 1 else f"{running or 'no'} processes keep"
    down = f"outlast down --state-dir {settings.state_path}"
    click.echo(
        f"the daemon has stopped; {count} running. `{down}` stops the processes and the shim, and frees the address.",
        err=True,
    )


@main.command(
    "init", short_help="Run as the first process of a container.", context_settings={"allow_interspersed_args": False}
)
@_STATE_DIR
@_CONFIG
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def init_command(state_dir: str | None, config: str | None, command: tuple[str, ...]) -> None:
    """Run as the first process (PID 1) of a container.

    COMMAND, for instance `outlast serve`, is restarted whenever it ends. SIGTERM stops every process and the container.

    If COMMAND is `outlast serve`, its --state-dir and --config count for both.
    """
    flags = serve_flags(command, serve_command)
    config = merge_flag("config", config, flags["config"])
    settings = _settings(config, state_dir=merge_flag("state-dir", state_dir, flags["state_dir"]))
    try:
        become_init(settings, config, command)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None


@main.group("shim", short_help="Manage the shim, the parent of all processes.")
def shim_group() -> None:
    """Manage the shim, the long-lived parent of all processes."""


@shim_group.command("upgrade", short_help="Upgrade the running shim.")
@_STATE_DIR
@_CONFIG
def upgrade_command(state_dir: str | None, config: str | None) -> None:
    """Upgrade the running shim to this version. Processes keep running, and their output is kept."""
    from outlast.shimlink import upgrade_shim

    settings = _settings(config, state_dir=state_dir)
    try:
        pid = upgrade_shim(settings.state_path)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None
    click.echo(f"the shim (pid {pid}) is upgraded; processes and their output were kept")


@main.command("down", short_help="Stop every process, the daemon and the shim.")
@_STATE_DIR
@_CONFIG
def down_command(state_dir: str | None, config: str | None) -> None:
    """Stop every process, the daemon and the shim.

    Each process gets SIGTERM, and SIGKILL after a grace period (setting stop_grace_ms). Stored output is kept.
    """
    from outlast.daemon.shutdown import shutdown

    settings = _settings(config, state_dir=state_dir)
    ended = _run(shutdown(settings))
    if ended is None:
        click.echo(f"nothing runs for {settings.state_path}")
    else:
        click.echo(f"{ended} running process{'' if ended == 1 else 'es'} ended; shim and daemon are down")


@main.command("sql", short_help="Run a read-only SQL query.")
@_STATE_DIR
@_CONFIG
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Maximum number of rows."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.001, 3600),
    default=10,
    show_default=True,
    help="Maximum time in seconds.",
)
@click.argument("query", required=False)
def sql_command(
    state_dir: str | None, config: str | None, form: str, limit: int, timeout: float, query: str | None
) -> None:
    """Run a read-only SQL QUERY (stdin if omitted). Works without a running daemon."""
    from outlast.cli.sql import run_query
    from outlast.model.sql import SqlQuery

    settings = _settings(config, state_dir=state_dir)
    sql_query = SqlQuery(query=query or sys.stdin.read(), max_rows=limit, timeout_s=timeout)
    text, truncated = _run(run_query(settings, sql_query, form))
    click.echo(text)
    if truncated:
        click.echo(
            f"the result has more rows than --limit {limit} (or more bytes than fit): some are missing", err=True
        )


def _settings(config: str | None, **flags: Any) -> Settings:
    try:
        return load_settings(os.environ, flags, config)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None


def _run(job: Any) -> Any:
    import asyncio

    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(job)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None
