"""`outlast serve`, `outlast init`, `outlast shim upgrade`, `outlast sql` and `outlast down`.

Each command imports what it needs when it runs: most of what `serve` takes to start is imports that no other command
needs, and `init`, which a container waits for, needs hardly any.
"""

import logging
import os
import sys
from typing import Any

import click

from outlast.cli.init import become_init, flags_of, one_of
from outlast.config import Settings, load_settings
from outlast.daemon.state_folder import TOKEN_NAME
from outlast.model.errors import OutlastError

_STATE_DIR = click.option("--state-dir", metavar="DIR", help="Folder of the database, the token and the shim's socket.")
_CONFIG = click.option("--config", metavar="FILE", help="TOML file; config/outlast.toml names every setting.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outlast")
def main() -> None:
    """Start, watch and signal background processes over HTTP, and keep every line they print."""


@main.command("serve")
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one. [127.0.0.1:9501]")
@_STATE_DIR
@_CONFIG
def serve_command(listen: str | None, state_dir: str | None, config: str | None) -> None:
    """Run the daemon. Ending or killing it leaves the processes running; `outlast down` ends them."""
    from outlast.daemon.serve import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(config, listen=listen, state_dir=state_dir)

    def announce(address: str) -> None:
        click.echo(f"listening on {address}")
        sys.stdout.flush()
        token = "OUTLAST_TOKEN" if settings.token else str(settings.state_path / TOKEN_NAME)
        click.echo(f"the token is in {token}", err=True)

    running = _run(serve(settings, announce))
    what = "1 process runs" if running == 1 else f"{running or 'no'} processes run"
    down = f"outlast down --state-dir {settings.state_path}"
    click.echo(f"the daemon has ended; {what} on. `{down}` ends what runs, and the shim.", err=True)


@main.command("init", context_settings={"allow_interspersed_args": False})
@_STATE_DIR
@_CONFIG
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def init_command(state_dir: str | None, config: str | None, command: tuple[str, ...]) -> None:
    """Be a container's first process: keep COMMAND, for instance `outlast serve`, alive; SIGTERM ends everything.

    The state folder and the configuration file are COMMAND's own, if it is `outlast serve`.
    """
    named = flags_of(command, serve_command)
    config = one_of("config", config, named["config"])
    settings = _settings(config, state_dir=one_of("state-dir", state_dir, named["state_dir"]))
    try:
        become_init(settings, config, command)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None


@main.group("shim")
def shim_group() -> None:
    """Look after the shim, the parent of the processes."""


@shim_group.command("upgrade")
@_STATE_DIR
@_CONFIG
def upgrade_command(state_dir: str | None, config: str | None) -> None:
    """Let the running shim become this version's, in place. Processes, their pipes and their output are kept."""
    from outlast.shimlink import upgrade_shim

    settings = _settings(config, state_dir=state_dir)
    try:
        pid = upgrade_shim(settings.state_path)
    except OutlastError as exc:
        raise click.ClickException(str(exc)) from None
    click.echo(f"the shim (pid {pid}) is upgraded; processes and their output were kept")


@main.command("down")
@_STATE_DIR
@_CONFIG
def down_command(state_dir: str | None, config: str | None) -> None:
    """End every process (SIGTERM, then SIGKILL after a grace), then shim and daemon. What they printed stays."""
    from outlast.daemon.shutdown import shutdown

    settings = _settings(config, state_dir=state_dir)
    ended = _run(shutdown(settings))
    if ended is None:
        click.echo(f"nothing runs for {settings.state_path}")
    else:
        click.echo(f"{ended} running process{'' if ended == 1 else 'es'} ended; shim and daemon are down")


@main.command("sql")
@_STATE_DIR
@_CONFIG
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Rows at most.")
@click.option("--timeout", type=click.FloatRange(0.001, 3600), default=10, show_default=True, help="Seconds at most.")
@click.argument("query", required=False)
def sql_command(
    state_dir: str | None, config: str | None, form: str, limit: int, timeout: float, query: str | None
) -> None:
    """Ask the store with QUERY (else from standard input), which can only read. No daemon need run."""
    from outlast.cli.sql import ask
    from outlast.model.sql import SqlQuery

    settings = _settings(config, state_dir=state_dir)
    asked = query or sys.stdin.read()
    question = SqlQuery(query=asked, max_rows=limit, timeout_s=timeout)
    text, truncated = _run(ask(settings, question, form))
    click.echo(text)
    if truncated:
        click.echo(f"only the first rows, {limit} at most, are shown: --limit takes more", err=True)


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
