"""The commands `serve`, `init`, `shutdown`, `sql`, `du`, `prune` and `shim upgrade`, and where those of clients are.

Each command imports what it needs when it runs: most of the time that `serve` takes to start is spent on imports that
no other command needs, and `init`, which a container waits for, needs hardly any.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

import click

from outlast.cli import garbage
from outlast.cli.messages import open_standard_streams, print_result, say
from outlast.config import Settings, load_settings
from outlast.daemon import state_folder
from outlast.linux.inherited import reset_signals
from outlast.linux.messages import escape
from outlast.model.errors import OutlastError

_STATE_DIR = click.option("--state-dir", metavar="DIR", help="State folder: database, token, socket of the shim.")
_CONFIG = click.option(
    "--config", metavar="FILE", help="TOML file with settings; see docs/configuration.md (installed: in share/outlast)."
)


_FORMAT = click.option(
    "-o",
    "--output",
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format.",
)
_ASK_S = 60.0


_CLIENT_COMMANDS = {
    "attach": "attach",
    "completion": "completion",
    "doctor": "doctor",
    "down": "project.commands",
    "events": "queries",
    "inspect": "processes",
    "kill": "processes",
    "logs": "logs",
    "mcp": "mcp.command",
    "open": "looking",
    "ps": "processes",
    "restart": "processes",
    "rm": "processes",
    "run": "run",
    "runs": "looking",
    "search": "queries",
    "send": "processes",
    "service": "service",
    "shell": "attach",
    "signal": "processes",
    "stats": "looking",
    "stop": "processes",
    "up": "project.commands",
    "wait": "processes",
}
"""Commands in modules of their own, which are loaded when they run."""


class _Commands(click.Group):
    """Commands that end with a sentence and exit code 1 if they fail. Those of clients are loaded when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_CLIENT_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _CLIENT_COMMANDS.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"outlast.cli.{module}"), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command and its words. If there is none, the error names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OutlastError as exc:
            raise click.ClickException(escape(str(exc))) from None
        except click.UsageError as exc:
            raise click.UsageError(escape(exc.format_message()), exc.ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outlast")
def main() -> None:
    """Start, watch and signal background processes over HTTP, and keep every line they print."""
    open_standard_streams()
    reset_signals([signal.SIGCHLD])  # a caller that ignores others, such as nohup, may mean it


@main.command("serve", short_help="Run the daemon.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    help="Address of the HTTP API; port 0: any free port. Repeat it for several. [127.0.0.1:9501]",
)
@_STATE_DIR
@_CONFIG
@click.option("--adopt", is_flag=True, help="Start the managed processes of a store that was copied or moved here.")
def serve_command(listen: tuple[str, ...], state_dir: str | None, config: str | None, *, adopt: bool) -> None:
    """Run the daemon. Processes keep running when the daemon stops; `outlast shutdown` stops everything."""
    _check_system()
    from outlast.cli.log import start_log
    from outlast.daemon.serve import serve

    settings = _settings(config, listen=listen or None, state_dir=state_dir)
    start_log(settings.log_level, settings.log_format)

    def announce(addresses: Sequence[str]) -> None:
        for address in addresses:
            say(f"listening on {address}")
        token = "OUTLAST_TOKEN" if settings.token else str(settings.state_path / state_folder.TOKEN_NAME)
        _tell(settings, f"the token is in {token}")

    running = _run(serve(settings, announce, adopt=adopt))
    count = "1 process keeps" if running == 1 else f"{running or 'no'} processes keep"
    shutdown = f"outlast shutdown --state-dir {settings.state_path}"
    _tell(
        settings,
        f"the daemon has stopped; {count} running. `{shutdown}` stops the processes and the shim, and frees the "
        "address.",
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
    _check_system()
    from outlast.cli.init import become_init, merge_flag, serve_flags

    flags = serve_flags(command, serve_command)
    config = merge_flag("config", config, flags["config"])
    settings = _settings(config, state_dir=merge_flag("state-dir", state_dir, flags["state_dir"]))
    become_init(settings, config, command)


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
    state_folder.check(settings.state_path)
    pid = upgrade_shim(settings.state_path)
    say(f"the shim (pid {pid}) is upgraded; processes and their output were kept")


@main.command("shutdown", short_help="Stop every process, the daemon and the shim.")
@_STATE_DIR
@_CONFIG
@click.option(
    "--discard", is_flag=True, help="Give up output that the store cannot take now, for instance on a full disk."
)
def shutdown_command(state_dir: str | None, config: str | None, *, discard: bool) -> None:
    """Stop every process, the daemon and the shim.

    Each process gets its stop signal (SIGTERM), and SIGKILL after a grace period (setting stop_grace_ms). Stored output
    is kept. If the store cannot take the rest, the command fails, and the shim keeps that rest until you repeat the
    command.
    """
    _check_system()
    from outlast.daemon.shutdown import shutdown

    settings = _settings(config, state_dir=state_dir)
    outcome = _run(shutdown(settings, discards=discard))
    if outcome is None:
        state_folder.check_used(settings.state_path)
        say(f"nothing runs for {settings.state_path}")
        return
    ended = f"{outcome.ended} running process{'' if outcome.ended == 1 else 'es'} ended; shim and daemon are down"
    say(ended if outcome.given_up is None else f"{ended}; {outcome.given_up}")


@main.command("sql", short_help="Run a read-only SQL query.")
@_STATE_DIR
@_CONFIG
@_FORMAT
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
    state_folder.check(settings.state_path)
    sql_query = SqlQuery(query=query or sys.stdin.read(), max_rows=limit, timeout_s=timeout)
    text, truncated = _run(run_query(settings, sql_query, form, for_terminal=sys.stdout.isatty()))
    print_result(text)
    if truncated:
        say(f"the result has more rows than --limit {limit} (or more bytes than fit): some are missing", err=True)


@main.command("du", short_help="Show which process holds how much output.")
@_STATE_DIR
@_CONFIG
@_FORMAT
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum number of processes."
)
def du_command(state_dir: str | None, config: str | None, form: str, limit: int) -> None:
    """Show which process holds how much output on the disk, the largest first. Works without a running daemon."""
    from outlast.cli import retention_sql

    settings = _settings(config, state_dir=state_dir)
    state_folder.check(settings.state_path)
    _ask(settings, retention_sql.HELD, {"limit": limit}, form)


@main.command("prune", short_help="Delete what is beyond the limits of retention.")
@_STATE_DIR
@_CONFIG
@_FORMAT
@click.option("--dry-run", is_flag=True, help="Only show what would go by which setting.")
def prune_command(state_dir: str | None, config: str | None, form: str, *, dry_run: bool) -> None:
    """Delete what is beyond the limits of retention (settings keep_...).

    A running daemon does this by itself. --dry-run works with it and without it, and shows for each setting what goes
    by it alone, in the form that --format names.
    """
    from outlast.cli import retention_sql
    from outlast.cli.log import start_log
    from outlast.daemon.prune import prune
    from outlast.daemon.retention_policy import retention_policy
    from outlast.model.clock import now_ms

    settings = _settings(config, state_dir=state_dir)
    state_folder.check(settings.state_path)
    if dry_run:
        _ask(settings, retention_sql.DUE, {"now": now_ms(), **asdict(retention_policy(settings))}, form)
        return
    start_log(settings.log_level, settings.log_format)
    deleted = _run(prune(settings))
    say(f"deleted {deleted}" if deleted else "nothing is beyond a limit")


def _ask(settings: Settings, query: str, parameters: dict[str, Any], form: str) -> None:
    from outlast.cli.sql import run_query
    from outlast.model.sql import SqlQuery

    asked = SqlQuery(query=query, parameters=parameters, max_rows=10_000, timeout_s=_ASK_S)
    text, _ = _run(run_query(settings, asked, form, for_terminal=sys.stdout.isatty()))
    print_result(text)


def _tell(settings: Settings, sentence: str) -> None:
    """Say a sentence on standard error: as it is, or as a record of a log that a program reads."""
    if settings.log_format == "json":
        import logging

        logging.getLogger("outlast").info("%s", sentence)
    else:
        say(sentence, err=True)


def _check_system() -> None:
    """Call this first: what a command imports may need a system call that is refused."""
    from outlast.linux.requirements import find_problem

    if (problem := find_problem()) is not None:
        raise click.ClickException(problem)


def _settings(config: str | None, **flags: Any) -> Settings:
    return load_settings(os.environ, flags, config)


def _run(job: Any) -> Any:
    import asyncio

    import uvloop

    garbage.begin()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)
