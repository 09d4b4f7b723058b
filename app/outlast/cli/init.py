"""`outlast init`: settle whose init this is to be, then become it."""

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
from outlast.wire.contract import BLOCKED_SIGNALS, INIT_MODE

# `outlast down` waits for the daemon (30 s) and, behind the grace, for what was killed (10 s); then some.
_DOWN_TAKES_S = 60.0


def flags_of(command: Sequence[str], serve: click.Command) -> dict[str, str | None]:
    """Return the `state_dir` and `config` that `command` names itself: those of `outlast serve`, else none.

    Raises:
        click.UsageError: it is `outlast serve` with flags that `outlast serve` does not know.
    """
    if Path(command[0]).name != "outlast" or "serve" not in command[1:2]:
        return {"state_dir": None, "config": None}
    with serve.make_context("outlast serve", list(command[2:])) as context:
        return {name: context.params[name] for name in ("state_dir", "config")}


def one_of(name: str, own: str | None, commands: str | None) -> str | None:
    """Return the value of a flag that may be given to `init` or to the command behind it.

    Raises:
        click.UsageError: both are given and differ.
    """
    if own is not None and commands is not None and own != commands:
        raise click.UsageError(f"--{name} is given twice, as {own} and as {commands}: give it once")
    return own if own is not None else commands


def become_init(settings: Settings, config: str | None, command: Sequence[str]) -> NoReturn:
    """Replace this process by the shim as an init that keeps `command` alive; the pid stays.

    Args:
        settings: as `command` will have them, too.
        config: path of the file that they come from, if a flag named it.
        command: runs the daemon.

    Raises:
        ConfigError: the state folder can't be made or used.
    """
    prepare(settings.state_path)
    # Whatever the command is: it, and `outlast down`, are about this folder.
    os.environ["OUTLAST_STATE_DIR"] = str(settings.state_path)
    if config is not None:
        os.environ["OUTLAST_CONFIG"] = str(Path(config).absolute())
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    end_within_s = settings.stop_grace_ms / 1000 + _DOWN_TAKES_S
    python = [sys.executable, "-P", "-m"]
    down = [*python, "outlast", "down", "--state-dir", str(settings.state_path)]
    init = [*python, "outlast.shim", str(settings.state_path), INIT_MODE, str(open_files), str(end_within_s)]
    # A SIGTERM that comes before there is a handler would be nothing to PID 1. Blocked, it waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*init, *down, "--", *command])  # noqa: S606 - no shell is the point
