"""`attach` and `shell`: the terminal of a process, in ours."""

import os
from functools import partial
from typing import Any

import click

from outlast.cli.attached import DETACH_KEYS, in_terminal, show_terminal, start_in_terminal
from outlast.cli.connect import client_command
from outlast.cli.references import REF
from outlast.cli.start_options import read_start, start_options
from outlast.client import Outlast


@click.command("attach", short_help="See a terminal, and type.")
@partial(client_command, exits_alike=True)
@DETACH_KEYS
@REF
def attach_command(ol: Outlast, ref: str, detach_keys: bytes | None) -> None:
    """See the terminal of a process that was started with `run -t` or `shell`, and type.

    Ctrl-] twice within a second leaves: the program goes on. When it ends, attach exits as it did: 128+N if signal N
    ended it.
    """
    show_terminal(ol.process(ref), detach_keys)


@click.command(
    "shell",
    short_help="Start a shell that outlives this terminal.",
    context_settings={"allow_interspersed_args": False},
)
@partial(client_command, exits_alike=True)
@DETACH_KEYS
@start_options
@click.argument("command", metavar="[SHELL [ARG]...]", nargs=-1, type=click.UNPROCESSED)
def shell_command(ol: Outlast, command: tuple[str, ...], detach_keys: bytes | None, **given: Any) -> None:
    """Start a shell in a terminal that outlives this one, and the daemon: $SHELL, unless another is given.

    Ctrl-] twice within a second leaves it, and `outlast attach` returns to it.
    """
    words = command or (os.environ.get("SHELL") or "/bin/sh",)
    start_in_terminal(ol, words, in_terminal(read_start(**given)), detach_keys)
