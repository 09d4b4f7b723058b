"""`ps`, `inspect`, `wait`, and what acts on processes: `signal`, `stop`, `kill`, `restart`, `rm`, `send`."""

import itertools
import os
import signal as signals
import sys
import time
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial

import click

from outlast.cli.connect import TIMED_OUT, Failure, Screen, client_command, each_of, exit_code_of, screen_command
from outlast.cli.messages import print_result, say
from outlast.cli.moments import duration, moment, show_age
from outlast.cli.tables import Column, Row, as_json
from outlast.client import NotRunning, Outlast, ProcessInfo

_RECENT_MS = 600_000
_NEWEST = 1000
_READ_BYTES = 65536
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}
_TEENS = range(11, 14)
_COLUMNS = [
    Column("ID", is_wide=True),
    Column("NAME"),
    Column("PID", right=True),
    Column("STATUS"),
    Column("AGE", right=True),
    Column("RUN", right=True, is_wide=True),
    Column("LINES", right=True),
    Column("TAGS", is_wide=True),
    Column("COMMAND"),
]
_REF = click.argument("ref")
_REFS = click.argument("refs", metavar="REF...", nargs=-1, required=True)


@click.command("ps", short_help="List processes.")
@screen_command(forms=True)
@click.option("-a", "--all", "everything", is_flag=True, help="All, not only those that run or have just ended.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone; the same as -o id.")
@click.option("-w", "--wide", is_flag=True, help="More columns; the same as -o wide.")
@click.option("--failed", is_flag=True, help="Only those that did not exit with 0.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Only those with this tag; may be repeated.")
@click.option("--name", metavar="GLOB", help="Only those whose name matches.")
@click.option("--since", type=moment, metavar="T", help="Only those that were started since then, such as 2h.")
@click.option("-n", "--last", type=click.IntRange(0), metavar="N", help="At most N, the newest.")
def ps_command(
    screen: Screen,
    ol: Outlast,
    tags: tuple[str, ...],
    name: str | None,
    since: int | None,
    last: int | None,
    *,
    everything: bool,
    quiet: bool,
    wide: bool,
    failed: bool,
) -> None:
    """List processes: those that run and, dimmed, those that ended in the last ten minutes.

    A process is named by its name, its pid or its id (-o wide).
    """
    now_ms = time.time_ns() // 1_000_000
    form = "id" if quiet else "wide" if wide and screen.form == "table" else screen.form
    screen = Screen(form, screen.is_terminal, screen.colours, screen.zone)
    found = (process.info for process in ol.processes(tags=read_tags(tags), since=since))
    # Behind the newest thousand come those that run; what ended lately is not looked for in all history.
    chosen = (
        info
        for info in (found if everything else itertools.takewhile(_Newest(), found))
        if (everything or failed or _is_live(info) or now_ms - (info.ended_at or 0) < _RECENT_MS)
        and (not failed or _has_failed(info))
        and (name is None or fnmatchcase(info.name or "", name))
    )
    screen.show(_COLUMNS, [_row(info, now_ms) for info in itertools.islice(chosen, last)])


class _Newest:
    """A test that ends a list behind its first page: at the first process that neither is among the newest nor runs."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, info: ProcessInfo) -> bool:
        self._count += 1
        return self._count <= _NEWEST or info.is_running


def _is_live(info: ProcessInfo) -> bool:
    return info.is_running or (info.managed is not None and info.managed.status in {"starting", "backing_off"})


def _has_failed(info: ProcessInfo) -> bool:
    return not info.is_running and info.exit_code != 0


def _row(info: ProcessInfo, now_ms: int) -> Row:
    since_ms = info.started_at if info.ended_at is None else info.ended_at
    return Row(
        [
            info.id,
            info.name or "-",
            str(info.pid),
            status_of(info),
            show_age((now_ms - since_ms) / 1000),
            str(info.run),
            f"{info.output.lines:,}",
            " ".join(f"{key}={value}" for key, value in info.tags.items()),
            " ".join((info.command, *info.args)),
        ],
        asdict(info),
        info.id,
        is_past=not _is_live(info),
    )


def status_of(info: ProcessInfo) -> str:
    """Return the status of a process in words."""
    managed = info.managed
    if managed is not None and managed.status == "backing_off":
        return f"backing off, {_ordinal(managed.restart_count + 1)}"
    if info.is_running:
        if managed is None or managed.health_status == "disabled":
            return "up"
        return f"up, {managed.health_status}"
    return how_it_ended(info.reason, info.exit_code, info.signal)


def how_it_ended(reason: str | None, exit_code: int | None, number: int | None) -> str:
    """Return the end of a process in words."""
    if reason == "signaled":
        return f"killed by {_signal_name(number)}"
    if reason == "exited":
        return f"exited {exit_code}"
    return {"oom_killed": "out of memory", "timed_out": "timed out"}.get(str(reason), str(reason))


def _signal_name(number: int | None) -> str:
    try:
        return signals.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in _TEENS else _ORDINALS.get(number % 10, "th")
    return f"{number}{ending}"


def read_tags(words: tuple[str, ...]) -> dict[str, str]:
    """Return tags that are written as `K=V`.

    Raises:
        click.UsageError: one is not.
    """
    tags = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise click.UsageError(f"{word!r} is not a tag: write KEY=VALUE")
        tags[key] = value
    return tags


@click.command("inspect", short_help="Show all that is known of a process.")
@client_command
@click.option("-f", "--format", "template", metavar="TEXT", help="Text with fields in braces, such as '{exit_code}'.")
@_REF
def inspect_command(ol: Outlast, template: str | None, ref: str) -> None:
    """Show all that is known of a process as JSON, or the fields that --format names."""
    fields = asdict(ol.process(ref).info)
    if template is None:
        print_result(as_json(fields))
        return
    try:
        print_result(template.format_map(fields))
    except (LookupError, ValueError, AttributeError) as exc:
        raise click.UsageError(f"{template!r} cannot be filled: {exc}; fields are {', '.join(fields)}") from None


@click.command("wait", short_help="Wait for a process.")
@partial(client_command, exits_alike=True)
@click.option("--output", "pattern", metavar="RE", help="Until it has printed a line that matches.")
@click.option("--port", type=click.IntRange(1, 65535), help="Until something accepts connections on a TCP port.")
@click.option("--idle", type=duration, metavar="TIME", help="Until it has printed nothing for so long.")
@click.option("--timeout", type=duration, metavar="TIME", help="Fail with 124 after so long.")
@_REF
def wait_command(
    ol: Outlast,
    pattern: str | None,
    port: int | None,
    idle: float | None,
    timeout: float | None,
    ref: str,
) -> None:
    """Wait until a process has ended, and exit as it did: its exit code, or 128 and the number of its signal.

    With --output, --port or --idle, wait for that instead, and exit with 0. 124: --timeout has passed.
    """
    process = ol.process(ref)
    try:
        if pattern is not None:
            print_result(process.wait_for_output(pattern, timeout=timeout).text)
        elif port is not None:
            process.wait_for_port(port, timeout=timeout)
        elif idle is not None:
            process.wait_idle(idle, timeout=timeout)
        else:
            info = process.wait(timeout)
            raise click.exceptions.Exit(exit_code_of(info.reason, info.exit_code, info.signal))
    except TimeoutError:
        raise Failure(f"{ref}: not after {timeout:g} s", TIMED_OUT) from None


@click.command("signal", short_help="Send a signal.")
@client_command
@click.option("--tree", is_flag=True, help="To the process and everything it started, not to its process group.")
@_REFS
@click.argument("signal", metavar="SIG")
def signal_command(ol: Outlast, refs: tuple[str, ...], signal: str, *, tree: bool) -> None:
    """Send a signal, such as TERM, SIGHUP or 10, to processes."""
    each_of(refs, lambda ref: ol.process(ref).signal(signal, scope="tree" if tree else None))


@click.command("stop", short_help="Ask processes to end, and kill them if they do not.")
@client_command
@_REFS
def stop_command(ol: Outlast, refs: tuple[str, ...]) -> None:
    """Ask processes to end, and kill them and everything they started after ten seconds.

    Managed processes are stopped for good, with their own stop signal and grace.
    """
    each_of(refs, lambda ref: _tell(ref, ol.process(ref).stop()))


@click.command("kill", short_help="Kill processes and everything they started.")
@client_command
@_REFS
def kill_command(ol: Outlast, refs: tuple[str, ...]) -> None:
    """Kill processes and everything they started. Managed processes are stopped for good, as by `outlast stop`."""
    each_of(refs, lambda ref: _tell(ref, ol.process(ref).kill()))


@click.command("restart", short_help="Restart managed processes.")
@client_command
@_REFS
def restart_command(ol: Outlast, refs: tuple[str, ...]) -> None:
    """Restart managed processes: those with a name, a restart policy or a health check."""

    def restart(ref: str) -> None:
        ol.process(ref).restart()
        print_result(ref)

    each_of(refs, restart)


@click.command("rm", short_help="Delete processes that have ended, and their output.")
@client_command
@click.option("-f", "--force", is_flag=True, help="Also those that run: they are killed.")
@_REFS
def rm_command(ol: Outlast, refs: tuple[str, ...], *, force: bool) -> None:
    """Delete the records and the output of processes. This cannot be undone."""

    def remove(ref: str) -> None:
        process = ol.process(ref)
        if _is_live(process.info) and not force:
            raise NotRunning("it runs: stop it first, or delete it with --force")
        _tell(ref, process.remove())

    each_of(refs, remove)


@click.command("send", short_help="Write to the standard input of a process.")
@client_command
@click.option("--eof", is_flag=True, help="Close standard input afterwards.")
@_REF
@click.argument("text", required=False)
def send_command(ol: Outlast, ref: str, text: str | None, *, eof: bool) -> None:
    """Write TEXT and a line end to the standard input of a process, or with - the bytes of our own."""
    process = ol.process(ref)
    if text == "-":
        while data := os.read(sys.stdin.fileno(), _READ_BYTES):
            process.send(data)
    elif text is not None:
        process.send(f"{text}\n".encode("utf-8", "surrogateescape"))
    elif not eof:
        raise click.UsageError("nothing to write: give TEXT, - or --eof")
    if eof:
        process.close_stdin()


def _tell(ref: str, warnings: list[str]) -> None:
    print_result(ref)
    for warning in warnings:
        say(f"outlast: {ref}: {warning}", err=True)
