"""The daemon that a command talks to, what its errors say, and the options that all such commands have."""

import contextlib
import errno
import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, timezone
from typing import Any

import click

from outlast.cli import garbage
from outlast.cli.messages import print_result, say
from outlast.cli.tables import FORMS, Column, Row, show
from outlast.cli.terminal import has_colours, screen_width
from outlast.client import Disconnected, NotFound, Outlast, SpawnFailed, Unauthorized
from outlast.client.address import Address
from outlast.client.request import Request
from outlast.client.sync_transport import Transport
from outlast.linux.messages import escape
from outlast.model.errors import OutlastError

TIMED_OUT, OURS, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127
INTERRUPTED = 130
_BY_SIGNAL = 128
_PATIENCE_S = 1.0
_COMMAND_NOT_FOUND = errno.ENOENT
_NO_LIMITS = {errno.ENODEV, errno.EOPNOTSUPP}


class Failure(click.ClickException):
    """A failure with an exit code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(escape(message))
        self._code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override] # click sets it on the class
        """Exit code of the command."""
        return self._code


@dataclass(frozen=True, slots=True)
class Screen:
    """How results are shown.

    Attributes:
        form: form of a table.
        is_terminal: whether people read standard output.
        colours: whether colours are printed.
        zone: zone of times; None: that of this machine.
    """

    form: str
    is_terminal: bool
    colours: bool
    zone: timezone | None

    def show(self, columns: list[Column], rows: list[Row]) -> None:
        """Print rows."""
        width = screen_width(os.environ) if self.is_terminal else None
        text = show(self.form, columns, rows, width, colours=self.colours)
        if text:
            print_result(text)


HOST = click.option("-H", "--host", metavar="URL", help="Daemon: http://HOST:PORT or unix:PATH. [OUTLAST_URL]")
_SCREEN = [
    click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colours. [auto]"),
    click.option("--utc", is_flag=True, help="Show times in UTC."),
]
_FORMS = [
    click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table", help="Form. [table]"),
    click.option("--json", "as_json", is_flag=True, help="The same as -o json."),
]


def client_command(command: Callable[..., None], *, exits_alike: bool = False) -> Callable[..., None]:
    """Give a command the option that names the daemon, and a client as its first argument.

    `exits_alike`: whether it exits as a process did, so that a failure of ours needs a code of its own.
    """

    @functools.wraps(command)
    def call(host: str | None, **given: Any) -> None:
        garbage.begin()
        with connected(host, OURS if exits_alike and given.get("until_exit", True) else 1) as ol:
            command(ol, **given)

    return HOST(call)


def screen_command(
    *, forms: bool = False, exits_alike: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command what `client_command` does, the options that say how results are shown, and a `Screen` for them.

    Args:
        forms: whether it prints a table, of which `-o` chooses the form.
        exits_alike: as in `client_command`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(ol: Outlast, color: str, *, utc: bool, **given: Any) -> None:
            form = given.pop("form", "table")
            form = "json" if given.pop("as_json", False) else form
            is_terminal = sys.stdout.isatty()
            colours = has_colours(color, os.environ, is_terminal=is_terminal)
            command(Screen(form, is_terminal, colours, UTC if utc else None), ol, **given)

        options = [*_SCREEN, *(_FORMS if forms else ())]
        return functools.reduce(
            lambda inner, option: option(inner), reversed(options), client_command(call, exits_alike=exits_alike)
        )

    return decorate


@contextlib.contextmanager
def connected(host: str | None, failure_code: int) -> Iterator[Outlast]:
    """Give a client for the daemon, and say in a sentence what fails. `failure_code`: exit code if we fail."""
    ol = Outlast(host)
    told = threading.Timer(_PATIENCE_S, _tell_wait, [ol])
    told.daemon = True
    if sys.stderr.isatty():
        told.start()
    try:
        with ol:
            yield ol
    except NotFound:
        raise
    except OutlastError as exc:
        raise Failure(sentence_of(exc, ol.address, has_answered=ol.has_answered), failure_code) from None
    finally:
        told.cancel()


def _tell_wait(ol: Outlast) -> None:
    """Say why nothing happens. While no daemon runs, the shim keeps its address open, and connections wait."""
    try:
        Transport(ol.address).ask(Request("GET", "/info", silent_s=_PATIENCE_S))
    except Disconnected:
        if not ol.has_answered:
            where = ol.address.where
            say(f"outlast: no daemon answers at {where} yet; if none runs, `outlast serve` starts one", err=True)


def sentence_of(error: OutlastError, address: Address, *, has_answered: bool) -> str:
    """Return what an error says to people. `has_answered`: whether the daemon has answered this client before."""
    if isinstance(error, Disconnected) and not (error.sent and has_answered):
        return f"no daemon answers at {address.where}: start one with `outlast serve`"
    if isinstance(error, Unauthorized):
        return (
            f"the token is missing or wrong: it was looked for in {address.token_from}; name another with OUTLAST_TOKEN"
        )
    return str(error)


def exit_code_of(reason: str | None, exit_code: int | None, number: int | None) -> int:
    """Return the exit code of a command that ends as a process did: 128 and its signal, 124 timed out, 125 lost."""
    if reason == "timed_out":
        return TIMED_OUT
    if number is not None:
        return _BY_SIGNAL + number
    return OURS if exit_code is None else exit_code


def spawn_failure(error: SpawnFailed, command: str, options: Mapping[str, Any]) -> Failure:
    """Return the failure of a start: 127 not found, 126 not executable, 125 a limit that this machine does not have."""
    if error.errno in _NO_LIMITS:
        return Failure(str(error), OURS)
    if error.errno != _COMMAND_NOT_FOUND:
        return Failure(str(error), NOT_EXECUTABLE)
    here = None if "/" in command or "PATH" in options.get("env", {}) else shutil.which(command)
    advice = f"; here it is {here}: -e PATH passes your PATH on" if here else ""
    return Failure(f"{error}{advice}", NOT_FOUND)


def each_of(refs: tuple[str, ...], act: Callable[[str], None]) -> None:
    """Act on each process, also if one is not there, and fail at the end if any was not.

    Raises:
        click.exceptions.Exit: at least one failed.
    """
    failed = False
    for ref in refs:
        try:
            act(ref)
        except (Disconnected, Unauthorized):
            raise
        except OutlastError as exc:
            say(f"outlast: {ref}: {exc}" if not isinstance(exc, NotFound) else f"outlast: {exc}", err=True)
            failed = True
    if failed:
        raise click.exceptions.Exit(1)
