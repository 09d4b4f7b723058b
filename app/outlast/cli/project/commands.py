"""`up` and `down`: declare the project of this folder to the daemon, and end it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from outlast.cli.connect import INTERRUPTED, Failure, Screen, client_command, screen_command
from outlast.cli.logs import follow_tagged
from outlast.cli.messages import print_result, say
from outlast.cli.moments import duration
from outlast.cli.project.declared import DeclaredProject
from outlast.cli.project.finding import find_file, read_project
from outlast.cli.project.text_files import near
from outlast.client import Outlast
from outlast.model.project import PROJECT_TAG

_FINAL = {"completed", "failed", "skipped", "stopped", "disabled"}
_BAD = {"failed", "skipped"}
_TOLD = ("created", "changed", "restarted", "removed", "unchanged")
_USAGE, _TIMED_OUT = 2, 124

_FILE = click.option("-f", "--file", metavar="FILE", help="File that declares it. [the first upwards from here]")
_NAME = click.option("-p", "--project", metavar="NAME", help="Name of the project. [its file's, or its folder's]")


@click.command("up", short_help="Start what a Procfile or process-compose.yaml declares.")
@screen_command()
@_FILE
@_NAME
@click.option("-d", "--detach", is_flag=True, help="Do not show output; return at once.")
@click.option(
    "--wait", "waits", is_flag=True, help="Return when all run, are healthy or have ended; fail if one failed."
)
@click.option(
    "--timeout", type=duration, default="60s", metavar="TIME", help="--wait: fail with 124 after so long. [60s]"
)
@click.option("--no-deps", is_flag=True, help="NAME: without those that it depends on.")
@click.option("--force-restart", is_flag=True, help="Also what has not changed.")
@click.option("--remove-orphans", is_flag=True, help="End processes that are declared no more.")
@click.option("--abort-on-exit", is_flag=True, help="End all when one has ended; exit with 1 if it failed.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def up_command(
    screen: Screen,
    ol: Outlast,
    file: str | None,
    project: str | None,
    names: tuple[str, ...],
    timeout: float,
    *,
    detach: bool,
    waits: bool,
    no_deps: bool,
    force_restart: bool,
    remove_orphans: bool,
    abort_on_exit: bool,
    dry_run: bool,
) -> None:
    """Start what a Procfile, process-compose.yaml or outlast.yaml declares, here or in a folder above.

    The daemon keeps the project: it goes on when this command is gone. Once more, only what has changed is touched.
    Output is shown until Ctrl-C, which ends the project; a closed terminal leaves it running.
    """
    declared = read_project(find_file(file), project)
    only = _chosen(declared, names, with_needs=not no_deps)
    bodies = {name: process.body for name, process in declared.processes.items()}
    if no_deps and only:
        for name in only:
            bodies[name] = {
                **bodies[name],
                "depends_on": {o: n for o, n in bodies[name]["depends_on"].items() if o in only},
            }
    for note in declared.notes:
        say(f"outlast: {note}", err=True)
    began_ms = time.time_ns() // 1_000_000
    applied = ol.apply_project(
        declared.name,
        bodies,
        folder=str(declared.folder),
        only=only,
        force=force_restart,
        remove_orphans=remove_orphans,
        dry_run=dry_run,
    )
    _tell(declared.name, applied, is_plan=dry_run)
    if dry_run:
        return
    if waits:
        _wait(ol, declared.name, timeout)
    elif not detach:
        _attach(screen, ol, declared, began_ms, aborts=abort_on_exit)


@click.command("down", short_help="End the project of this folder.")
@client_command
@_FILE
@_NAME
@click.argument("names", metavar="[NAME]...", nargs=-1)
def down_command(ol: Outlast, file: str | None, project: str | None, names: tuple[str, ...]) -> None:
    """End the project that a file here, or in a folder above, declares, or the processes NAME of it.

    They end in reverse order. Records and output are kept.
    """
    name = project or read_project(find_file(file), None).name
    ol.end_project(name, names)
    print_result(f"{name}: {', '.join(names) if names else 'all'} ended")


def _chosen(declared: DeclaredProject, names: Sequence[str], *, with_needs: bool) -> list[str]:
    """Return the processes that names mean, with those that they wait for; empty: all."""
    found: list[str] = []
    rest = []
    for name in names:
        replicas = [other for other in declared.processes if other.rpartition("-")[0] == name]
        if name not in declared.processes and not replicas:
            raise Failure(f"{name!r} is not declared{near(name, declared.processes)}", _USAGE)
        rest += [name] if name in declared.processes else replicas
    while rest:
        name = rest.pop()
        if name not in found:
            found.append(name)
            rest += declared.processes[name].needs if with_needs else ()
    return found


def _tell(name: str, applied: Mapping[str, Any], *, is_plan: bool) -> None:
    """Say what is done, or would be."""
    parts = [f"{word} {', '.join(applied[word])}" for word in _TOLD if applied[word]]
    say(f"{name}: {'would be: ' if is_plan else ''}{'; '.join(parts) or 'nothing is declared'}", err=True)
    for waiting, reason in applied["waiting"].items():
        say(f"{name}: {waiting} waits {reason}", err=True)
    if orphans := applied["orphans"]:
        say(f"{name}: declared no more, and still there: {', '.join(orphans)}; --remove-orphans ends them", err=True)


def _wait(ol: Outlast, name: str, timeout_s: float) -> None:
    """Wait until nothing is left to wait for.

    Raises:
        Failure: a process has failed, or it takes too long.
    """
    shown = ol.project(name, wait=timeout_s)
    if not shown["settled"]:
        pending = [each for each, told in shown["processes"].items() if told["status"] in {"waiting", "starting"}]
        raise Failure(f"{name}: not ready after {timeout_s:g} s: {', '.join(pending)}", _TIMED_OUT)
    if bad := _bad(shown):
        raise Failure(f"{name}: {'; '.join(bad)}", 1)


def _bad(shown: Mapping[str, Any]) -> list[str]:
    """Return in words the processes that have failed or were skipped."""
    return [
        f"{each} {told['status']}{': ' if told['reason'] else ''}{told['reason']}"
        for each, told in shown["processes"].items()
        if told["status"] in _BAD
    ]


def _attach(screen: Screen, ol: Outlast, declared: DeclaredProject, began_ms: int, *, aborts: bool) -> None:
    """Show output until every process has ended, and then exit with 1 if one has failed. Ctrl-C ends the project."""
    name = declared.name
    ends_all = {short for short, process in declared.processes.items() if aborts or process.ends_all}
    try:
        shown = ol.project(name)
        ends = follow_tagged(
            ol,
            screen,
            {PROJECT_TAG: name},
            began_ms,
            lambda full: full.removeprefix(f"{name}."),
            list(declared.processes),
        )
        while not all(told["status"] in _FINAL for told in shown["processes"].values()):
            next(ends, None)
            shown = ol.project(name)
            over = [each for each in ends_all if shown["processes"][each]["status"] in {"completed", "failed"}]
            if over:
                say(f"{name}: {over[0]} has ended, and so does the rest", err=True)
                ol.end_project(name)
                raise click.exceptions.Exit(int(shown["processes"][over[0]]["status"] == "failed"))
    except KeyboardInterrupt:
        say(f"{name}: ending ... (Ctrl-C again leaves that to the daemon)", err=True)
        ol.end_project(name)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if bad := _bad(shown):
        raise Failure(f"{name}: {'; '.join(bad)}", 1)
