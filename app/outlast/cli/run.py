"""`run`: start a command, and show its output until it ends."""

import contextlib
import signal
import time
from types import FrameType
from typing import Any

import click

from outlast.cli.attached import DETACH_KEYS, in_terminal, start_in_terminal
from outlast.cli.connect import OURS, Failure, Screen, exit_code_of, screen_command, spawn_failure
from outlast.cli.input import Input
from outlast.cli.live_output import show_to_end
from outlast.cli.messages import print_result, say
from outlast.cli.start_options import read_start, start_options
from outlast.client import NotRunning, Outlast, OutlastError, Process, SpawnFailed

_SECOND_S = 2.0


@click.command(
    "run",
    short_help="Run a command.",
    context_settings={"allow_interspersed_args": False},
)
@screen_command(exits_alike=True)
@click.option("-d", "--detach", is_flag=True, help="Start it, print its reference, and return.")
@click.option("-i", "--interactive", is_flag=True, help="Pass our standard input on; with -d: leave it to `send`.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal, and show that in ours; see `attach`.")
@DETACH_KEYS
@start_options
@click.option("--replace", is_flag=True, help="With -d and --name: change the process with this name in place.")
@click.option("--rm", is_flag=True, help="Delete its record and output when it has ended (not with -d).")
@click.argument("command", metavar="CMD [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(screen: Screen, ol: Outlast, command: tuple[str, ...], **given: Any) -> None:
    """Run a command, show its output, and exit as it did.

    128+N: signal N ended it. 124: --timeout. 125: Outlast failed. 126: CMD is not executable. 127: CMD was not found.
    Ctrl-C interrupts the command; a second one within two seconds kills it and everything it started. With -t, all keys
    go to the command, and Ctrl-] twice within a second leaves it: it goes on.

    --name, --restart and --health make a managed process, which goes on until it is stopped: they need -d.
    """
    options = read_start(**given)
    if given["replace"] and not (given["detach"] and given["name"]):
        raise click.UsageError("--replace changes the process that has a name: give -d and --name, too")
    if given["replace"] and given["key"]:
        raise click.UsageError("--key cannot be used with --replace, which may be repeated anyway")
    if given["tty"]:
        options = in_terminal(options)
    elif given["interactive"]:
        options["stdin"] = "pipe"
    try:
        if given["detach"]:
            print_result(_start(ol, command, options, replaces=given["replace"]))
            return
        if given["name"] or given["restart"] or given["health"]:
            raise click.UsageError(
                "--name, --restart and --health make a managed process, which has no one end: give -d, too"
            )
        if given["tty"]:
            start_in_terminal(ol, command, options, given["detach_keys"], removes=given["rm"])
            return
        _run(screen, ol, command, options, removes=given["rm"])
    except SpawnFailed as exc:
        raise spawn_failure(exc, command[0], options) from None


def _start(ol: Outlast, command: tuple[str, ...], options: dict[str, Any], *, replaces: bool) -> str:
    """Start a process, or change the one that has its name, and return its reference."""
    if not replaces:
        process = ol.start(*command, **options)
    else:
        process, is_changed = ol.replace(*command, **options)
        if not is_changed:
            say(f"outlast: {process.name} runs like this already: nothing was done", err=True)
    return process.name or process.id


def _run(screen: Screen, ol: Outlast, command: tuple[str, ...], options: dict[str, Any], *, removes: bool) -> None:
    interrupts = _Interrupts()
    previous = signal.signal(signal.SIGINT, interrupts.came)
    own_input = Input(ol)
    try:
        process = ol.start(*command, **options)
        try:
            interrupts.begin(process)
            if "stdin" in options:
                own_input.start(process.id)
            show_to_end(process, screen)
            info = process.wait()
        except BaseException:
            with contextlib.suppress(OutlastError):  # the error that ends the command says more
                process.kill()
            raise
    finally:
        signal.signal(signal.SIGINT, previous)
    if removes:
        process.remove()
    if own_input.problem:
        raise Failure(own_input.problem, OURS)
    raise click.exceptions.Exit(exit_code_of(info.reason, info.exit_code, info.signal))


class _Interrupts:
    """Effects of Ctrl-C: the first interrupts the command, a second one soon after kills its tree."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._last_at = float("-inf")

    def begin(self, process: Process) -> None:
        """Note which process runs."""
        self._process = process

    def came(self, _number: int, _frame: FrameType | None) -> None:
        """Act on Ctrl-C.

        Raises:
            KeyboardInterrupt: nothing is started yet.
        """
        if self._process is None:
            raise KeyboardInterrupt
        now = time.monotonic()
        is_second, self._last_at = now - self._last_at < _SECOND_S, now
        with contextlib.suppress(NotRunning):  # its end is on its way
            self._process.signal("KILL" if is_second else "INT", scope="tree" if is_second else "group")
