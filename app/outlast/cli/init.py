"""`outlast init`: find the state folder of the daemon, then become the shim that keeps the daemon running."""

import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from outlast.config import Settings
from outlast.daemon.state_folder import prepare
from outlast.linux.inherited import reset_signals
from outlast.wire.contract import BLOCKED_SIGNALS, INIT_MODE

_DOWN_TAKES_S = 60.0
"""Time that `outlast shutdown` takes besides the grace: 30 s for the daemon, 10 s for kills, and a reserve."""


def serve_flags(command: Sequence[str], serve: click.Command) -> dict[str, str | None]:
    """Return the flags `state_dir` and `config` in `command` if it is `outlast serve`; otherwise None for both.

    Raises:
        click.UsageError: `command` is `outlast serve` with an unknown flag.
    """
    if Path(command[0]).name != "outlast" or "serve" not in command[1:2]:
        return {"state_dir": None, "config": None}
    with serve.make_context("outlast serve", list(command[2:])) as context:
        return {name: context.params[name] for name in ("state_dir", "config")}


def merge_flag(name: str, own: str | None, commands: str | None) -> str | None:
    """Return the value of a flag that can be given to `init` or to the command that it runs.

    Raises:
        click.UsageError: both have the flag, with different values.
    """
    if own is not None and commands is not None and own != commands:
        raise click.UsageError(f"--{name} is given twice, as {own} and as {commands}: give it once")
    return own if own is not None else commands


def become_init(settings: Settings, config: str | None, command: Sequence[str]) -> NoReturn:
    """Replace this process by the shim as an init that keeps `command` running. The pid stays the same.

    Args:
        settings: settings of `command`, too.
        config: path of the configuration file, if a flag named one.
        command: the command that runs the daemon.

    Raises:
        ConfigError: the state folder cannot be made or used.
    """
    prepare(settings.state_path)
    # Both the command and `outlast shutdown` must use this folder.
    os.environ["OUTLAST_STATE_DIR"] = str(settings.state_path)
    if config is not None:
        os.environ["OUTLAST_CONFIG"] = str(Path(config).absolute())
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    end_within_s = settings.stop_grace_ms / 1000 + _DOWN_TAKES_S
    python = [sys.executable, "-P", "-m"]
    down = [*python, "outlast", "shutdown", "--state-dir", str(settings.state_path)]
    init = [*python, "outlast.shim", str(settings.state_path), INIT_MODE, str(open_files), str(end_within_s)]
    reset_signals()
    # The kernel drops a SIGTERM to PID 1 that has no handler yet. Blocked, the signal stays pending.
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    os.execv(sys.executable, [*init, *down, "--", *command])  # noqa: S606 - no shell is the point
