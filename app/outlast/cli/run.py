"""`run`: start a command, and show its output until it ends."""

import contextlib
import os
import signal
import time
from types import FrameType
from typing import Any

import click

from outlast.cli.connect import OURS, Failure, Screen, exit_code_of, screen_command, spawn_failure
from outlast.cli.input import Input
from outlast.cli.messages import STDERR, STDOUT, print_result, say, write_result
from outlast.cli.processes import what_is_missing
from outlast.cli.start_options import read_start, start_options
from outlast.cli.terminal import printable
from outlast.client import Ended, Line, NotRunning, Outlast, SpawnFailed, Started

_SECOND_S = 2.0


@click.command(
    "run",
    short_help="Run a command.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@screen_command(exits_alike=True)
@click.option("-d", "--detach", is_flag=True, help="Start it, print its reference, and return.")
@click.option("-i", "--interactive", is_flag=True, help="Pass our standard input on; with -d: leave it to `send`.")
@start_options
@click.option("--rm", is_flag=True, help="Delete its record and output when it has ended.")
@click.argument("command", metavar="CMD [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(screen: Screen, ol: Outlast, command: tuple[str, ...], **given: Any) -> None:
    """Run a command, show its output, and exit as it did.

    128+N: signal N ended it. 124: --timeout. 125: Outlast failed. 126: CMD is not executable. 127: CMD was not found.
    Ctrl-C interrupts the command; a second one within two seconds kills it and everything it started.
    """
    options = read_start(**given)
    if given["interactive"]:
        options["stdin"] = "pipe"
    try:
        if given["detach"]:
            process = ol.start(*command, **options)
            print_result(process.name or process.id)
            return
        if given["name"] or given["restart"] or given["health"]:
            raise click.UsageError(
                "--name, --restart and --health make a managed process, which has no one end: give -d, too"
            )
        _run(screen, ol, command, options, removes=given["rm"])
    except SpawnFailed as exc:
        raise spawn_failure(exc) from None


def _run(screen: Screen, ol: Outlast, command: tuple[str, ...], options: dict[str, Any], *, removes: bool) -> None:
    interrupts = _Interrupts(ol)
    own_input = Input(ol)
    previous = signal.signal(signal.SIGINT, interrupts.came)
    shown = {"stdout": (STDOUT, os.isatty(STDOUT)), "stderr": (STDERR, os.isatty(STDERR))}
    end = Ended("lost", None, None)
    try:
        for item in ol.run_stream(*command, on_reconnect=_say_so, **options):
            if isinstance(item, Started):
                interrupts.started(item.id)
                if "stdin" in options:
                    own_input.start(item.id)
            elif isinstance(item, Ended):
                end = item
            elif isinstance(item, Line):
                fd, is_terminal = shown[item.stream]
                text = printable(item.text, colours=screen.colours) if is_terminal else item.text
                write_result(f"{text}\n".encode("utf-8", "backslashreplace"), fd)
            else:
                say(f"outlast: {what_is_missing(item)}", err=True)
    finally:
        signal.signal(signal.SIGINT, previous)
    if removes:
        ol.process(interrupts.id).remove()
    if own_input.problem:
        raise Failure(own_input.problem, OURS)
    raise click.exceptions.Exit(exit_code_of(end.reason, end.exit_code, end.signal))


def _say_so(_: int) -> None:
    say("outlast: the connection broke; going on where it did", err=True)


class _Interrupts:
    """Effects of Ctrl-C: the first interrupts the command, a second one soon after kills its tree.

    Attributes:
        id: id of the process; empty: it is not started yet.
    """

    def __init__(self, ol: Outlast) -> None:
        self._ol = ol
        self._last_at = float("-inf")
        self.id = ""

    def started(self, process_id: str) -> None:
        """Note which process runs."""
        self.id = process_id

    def came(self, _number: int, _frame: FrameType | None) -> None:
        """Act on Ctrl-C.

        Raises:
            KeyboardInterrupt: nothing is started yet.
        """
        if not self.id:
            raise KeyboardInterrupt
        now = time.monotonic()
        is_second, self._last_at = now - self._last_at < _SECOND_S, now
        process = self._ol.process(self.id)
        with contextlib.suppress(NotRunning):  # its end is on its way
            process.signal("KILL" if is_second else "INT", scope="tree" if is_second else "group")
