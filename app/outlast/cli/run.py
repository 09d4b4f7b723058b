"""`run`: start a command, and show its output until it ends."""

import contextlib
import os
import signal
import time
from types import FrameType
from typing import Any

import click

from outlast.cli.connect import Screen, exit_code_of, screen_command, spawn_failure
from outlast.cli.messages import STDERR, STDOUT, print_result, say, write_result
from outlast.cli.moments import duration
from outlast.cli.processes import read_tags
from outlast.cli.terminal import printable
from outlast.client import Ended, Line, NotRunning, Outlast, SpawnFailed, Started

_SECOND_S = 2.0
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(word: str) -> int:
    """Return a number of bytes, such as 512M.

    Raises:
        click.BadParameter: it is none.
    """
    plain = word.upper().removesuffix("IB").removesuffix("B")
    number = plain.rstrip("KMG")
    if not number.isdecimal() or plain[len(number) :] not in _SIZES:
        raise click.BadParameter(f"{word!r} is not a size: give bytes, or 64K, 512M, 2G")
    return int(number) * _SIZES[plain[len(number) :]]


@click.command(
    "run",
    short_help="Run a command.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@screen_command(exits_alike=True)
@click.option("-d", "--detach", is_flag=True, help="Start it, print its reference, and return.")
@click.option("--name", metavar="NAME", help="Name of the process; it is then managed (needs -d).")
@click.option("--restart", metavar="WHEN", help="never, on-failure[:N] or always (needs -d).")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Tag; may be repeated.")
@click.option("-e", "--env", metavar="K[=V]", multiple=True, help="Environment variable; without =V, its value here.")
@click.option("-w", "--workdir", metavar="DIR", help="Folder in which it starts. [this one]")
@click.option("-u", "--user", metavar="USER", help="User, or USER:GROUP.")
@click.option("--timeout", type=duration, metavar="TIME", help="Kill it after so long.")
@click.option("--memory", type=_size, metavar="SIZE", help="Memory limit, such as 512M.")
@click.option("--cpus", type=float, help="CPU limit, such as 1.5.")
@click.option("--nice", type=int, help="Nice value.")
@click.option("--key", metavar="KEY", help="Idempotency key: a second run with it starts nothing.")
@click.option("--rm", is_flag=True, help="Delete its record and output when it has ended.")
@click.argument("command", metavar="CMD [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(screen: Screen, ol: Outlast, command: tuple[str, ...], **given: Any) -> None:
    """Run a command, show its output, and exit as it did.

    128+N: signal N ended it. 124: --timeout. 125: Outlast failed. 126: CMD is not executable. 127: CMD was not found.
    Ctrl-C interrupts the command; a second one within two seconds kills it and everything it started.
    """
    options = _options(**given)
    try:
        if given["detach"]:
            process = ol.start(*command, **options)
            print_result(process.name or process.id)
            return
        if given["name"] or given["restart"]:
            raise click.UsageError("--name and --restart make a managed process, which has no one end: give -d, too")
        _run(screen, ol, command, options, removes=given["rm"])
    except SpawnFailed as exc:
        raise spawn_failure(exc) from None


def _options(
    *,
    name: str | None,
    restart: str | None,
    tags: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    timeout: float | None,
    memory: int | None,
    cpus: float | None,
    nice: int | None,
    key: str | None,
    **_: object,
) -> dict[str, Any]:
    """Return the options of the start."""
    limits = {"memory_bytes": memory, "cpus": cpus}
    options = {
        "name": name,
        "restart": _restart(restart) if restart else None,
        "tags": read_tags(tags) or None,
        "env": _environment(env) or None,
        "cwd": workdir or os.getcwd(),  # noqa: PTH109 - a word, as it is sent
        "user": user,
        "timeout": timeout,
        "limits": {limit: value for limit, value in limits.items() if value is not None} or None,
        "nice": nice,
        "key": key,
    }
    return {option: value for option, value in options.items() if value is not None}


def _restart(word: str) -> dict[str, Any]:
    policy, colon, most = word.partition(":")
    if policy not in {"never", "on-failure", "always"} or (colon and not most.isdecimal()):
        raise click.UsageError(f"--restart is never, on-failure, on-failure:N or always, not {word!r}")
    return {"policy": policy.replace("-", "_"), **({"max_restarts": int(most)} if colon else {})}


def _environment(words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name not in os.environ:
            raise click.UsageError(f"{name} is not set here: give -e {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _run(screen: Screen, ol: Outlast, command: tuple[str, ...], options: dict[str, Any], *, removes: bool) -> None:
    interrupts = _Interrupts(ol)
    previous = signal.signal(signal.SIGINT, interrupts.came)
    shown = {"stdout": (STDOUT, os.isatty(STDOUT)), "stderr": (STDERR, os.isatty(STDERR))}
    end = Ended("lost", None, None)
    try:
        for item in ol.run_stream(*command, on_reconnect=_say_so, **options):
            if isinstance(item, Started):
                interrupts.started(item.id)
            elif isinstance(item, Ended):
                end = item
            elif isinstance(item, Line):
                fd, is_terminal = shown[item.stream]
                text = printable(item.text, colours=screen.colours) if is_terminal else item.text
                write_result(f"{text}\n".encode("utf-8", "backslashreplace"), fd)
            else:
                say(f"outlast: {item.last - item.first + 1} lines are missing here: {item.reason}", err=True)
    finally:
        signal.signal(signal.SIGINT, previous)
    if removes:
        ol.process(interrupts.id).remove()
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
