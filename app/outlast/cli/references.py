"""References to processes as arguments of commands, which a shell can complete."""

import contextlib
import signal
from itertools import islice

import click
from click.shell_completion import CompletionItem

from outlast.client import Outlast, OutlastError, Process, ProcessInfo

_MOST = 1000
_PATIENCE_S = 2


def word_of(process: Process) -> str:
    """Return the word by which people name a process: its name, or else its handle."""
    return process.name or f"@{process.info.handle}"


def _complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the names and handles that go on as a word was begun. A daemon that is away or silent knows none."""
    signal.alarm(_PATIENCE_S)  # ends this process, which does nothing but complete a word
    found: dict[str, CompletionItem] = {}  # several processes may have had a name: the newest one counts
    with contextlib.suppress(OutlastError), Outlast(context.params.get("host"), give_up_after=0) as ol:
        for process in islice(ol.processes(), _MOST):
            word = word_of(process)
            if word.startswith(begun):
                found.setdefault(word, CompletionItem(word, help=_about(process.info)))
    return list(found.values())


def _about(info: ProcessInfo) -> str:
    words = " ".join((info.status, info.command, *info.args))
    return "".join(character if character.isprintable() else " " for character in words)[:60]


REF = click.argument("ref", shell_complete=_complete)
OPTIONAL_REF = click.argument("ref", required=False, shell_complete=_complete)
REFS = click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=_complete)
