"""`ps`, `inspect`, `wait`, and what acts on processes: `signal`, `stop`, `kill`, `restart`, `rm`, `send`."""

import itertools
import os
import signal as signals
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import click

from outlast.cli.connect import TIMED_OUT, Failure, Screen, client_command, each_of, exit_code_of, screen_command
from outlast.cli.messages import print_result, say
from outlast.cli.moments import duration, moment, show_age
from outlast.cli.references import REF, REFS
from outlast.cli.tables import Column, Row, as_json, show_size
from outlast.client import Gap, NotRunning, Outlast, ProcessInfo, StdinNotWritable

_RECENT_MS = 600_000
_NEWEST = 1000
_READ_BYTES = 65536
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}
_TEENS = range(11, 14)
_COLUMNS = [
    Column("ID"),
    Column("NAME"),
    Column("PID", right=True, leaves=3),
    Column("STATUS"),
    Column("AGE", right=True, leaves=2),
    Column("CPU", right=True, leaves=6),
    Column("MEM", right=True, leaves=5),
    Column("RUN", right=True, is_wide=True, leaves=9),
    Column("LINES", right=True, leaves=4),
    Column("LAST", right=True, leaves=7),
    Column("TAGS", is_wide=True, leaves=8),
    Column("ULID", is_wide=True, leaves=10),
    Column("COMMAND", leaves=1, gives=True),
]
_ORDERS: dict[str, Callable[[ProcessInfo], Any]] = {
    "cpu": lambda info: -(_cpu(info) or 0),
    "mem": lambda info: -(_memory(info) or 0),
    "age": lambda info: info.started_at,
    "name": lambda info: (info.name is None, info.name, -info.handle),
}


@click.command("ps", short_help="List processes.")
@screen_command(forms=True)
@click.option("-a", "--all", "everything", is_flag=True, help="All, not only those that run or have just ended.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone; the same as -o id.")
@click.option("-w", "--wide", is_flag=True, help="More columns; the same as -o wide.")
@click.option("--failed", is_flag=True, help="Only those that did not exit with 0.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Only those with this tag; may be repeated.")
@click.option("--name", metavar="GLOB", help="Only those whose name matches.")
@click.option("--since", type=moment, metavar="T", help="Only those that were started since then, such as 2h.")
@click.option(
    "-n", "--last", type=click.IntRange(0), metavar="N", help="At most N: the newest, or the first by --sort."
)
@click.option("--sort", "order", type=click.Choice(list(_ORDERS)), help="By processor, memory, age or name. [newest]")
@click.option("--columns", "titles", metavar="A,B", help="These columns alone, such as name,status,lines.")
def ps_command(
    screen: Screen,
    ol: Outlast,
    tags: tuple[str, ...],
    name: str | None,
    since: int | None,
    last: int | None,
    order: str | None,
    titles: str | None,
    *,
    everything: bool,
    quiet: bool,
    wide: bool,
    failed: bool,
) -> None:
    """List processes: those that run and, dimmed, those that ended in the last ten minutes.

    LAST is the time since the last output. REF in other commands is an ID such as @12, a name, a pid or a permanent id.
    """
    now_ms = time.time_ns() // 1_000_000
    columns = _chosen(titles) if titles else _COLUMNS
    form = "id" if quiet else "wide" if wide and screen.form == "table" else screen.form
    screen = Screen(form, screen.is_terminal, screen.colours, screen.zone)
    found = (process.info for process in ol.processes(tags=read_tags(tags), since=since, usage=form != "id"))
    # Behind the newest thousand come those that run; what ended lately is not looked for in all history.
    chosen = (
        info
        for info in (found if everything else itertools.takewhile(_Newest(), found))
        if (everything or failed or _is_live(info) or now_ms - (info.ended_at or 0) < _RECENT_MS)
        and (not failed or _has_failed(info))
        and (name is None or fnmatchcase(info.name or "", name))
    )
    shown = itertools.islice(sorted(chosen, key=_ORDERS[order]) if order else chosen, last)
    screen.show(columns, [_row(info, columns, now_ms) for info in shown])


def _chosen(titles: str) -> list[Column]:
    """Return the columns that `--columns` names."""
    by_title = {column.title.lower(): column for column in _COLUMNS}
    words = [word.strip().lower() for word in titles.split(",")]
    if unknown := [word for word in words if word not in by_title]:
        raise click.UsageError(f"--columns: there is no column {unknown[0]!r}: name {', '.join(by_title)}")
    return [replace(by_title[word], is_wide=False) for word in words]


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


def _row(info: ProcessInfo, columns: list[Column], now_ms: int) -> Row:
    since_ms = info.started_at if info.ended_at is None else info.ended_at
    last_at, percent, memory = info.output.last_at, _cpu(info), _memory(info)
    cells = {
        "ID": f"@{info.handle}",
        "NAME": info.name or "-",
        "PID": str(info.pid) if info.is_running else "-",
        "STATUS": status_of(info),
        "AGE": show_age((now_ms - since_ms) / 1000),
        "CPU": "-" if percent is None else f"{percent:.1f}%",
        "MEM": "-" if memory is None else show_size(memory),
        "RUN": str(info.run),
        "LINES": f"{info.output.lines:,}",
        "LAST": "-" if last_at is None else show_age((now_ms - last_at) / 1000),
        "TAGS": " ".join(f"{key}={value}" for key, value in info.tags.items()),
        "ULID": info.id,
        "COMMAND": " ".join((info.command, *info.args)),
    }
    return Row([cells[column.title] for column in columns], asdict(info), info.id, is_past=not _is_live(info))


def _cpu(info: ProcessInfo) -> float | None:
    return info.usage["cpu"]["percent"] if info.usage else None


def _memory(info: ProcessInfo) -> int | None:
    return info.usage["memory"]["rss_bytes"] if info.usage else None


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


def what_is_missing(gap: Gap) -> str:
    """Return a gap in words. Only of what limits have deleted is the number of lines known."""
    if gap.lines is None or gap.bytes is None:
        return f"output is missing here: {gap.reason}"
    count = gap.last - gap.first + 1
    lines = "1 line is" if count == 1 else f"{count:,} lines are"
    return f"{lines} missing here: {what_is_deleted(gap.lines, gap.bytes)}"


def what_is_deleted(lines: int, count: int) -> str:
    """Return in words what limits have deleted of a process. `count`: bytes."""
    amount = "1 line" if lines == 1 else f"{lines:,} lines"
    return f"a limit has deleted {amount} ({show_size(count)}) of the process in all"


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
@REF
def inspect_command(ol: Outlast, template: str | None, ref: str) -> None:
    """Show all that is known of a process as JSON, or the fields that --format names."""
    fields = asdict(ol.process(ref).info)
    if template is None:
        print_result(as_json(fields, indent=2))
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
@click.option("--healthy", is_flag=True, help="Until its health check succeeds, or its ready_log matches.")
@click.option("--timeout", type=duration, metavar="TIME", help="Fail with 124 after so long.")
@REF
def wait_command(
    ol: Outlast,
    pattern: str | None,
    port: int | None,
    idle: float | None,
    timeout: float | None,
    ref: str,
    *,
    healthy: bool,
) -> None:
    """Wait until a process has ended, and exit as it did: its exit code, or 128 and the number of its signal.

    With --output, --port, --idle or --healthy, wait for that instead, and exit with 0. 124: --timeout has passed.
    """
    process = ol.process(ref)
    try:
        if pattern is not None:
            print_result(process.wait_for_output(pattern, timeout=timeout).text)
        elif port is not None:
            process.wait_for_port(port, timeout=timeout)
        elif idle is not None:
            process.wait_idle(idle, timeout=timeout)
        elif healthy:
            process.wait_healthy(timeout=timeout)
        else:
            info = process.wait(timeout)
            raise click.exceptions.Exit(exit_code_of(info.reason, info.exit_code, info.signal))
    except TimeoutError:
        raise Failure(f"{ref}: not after {timeout:g} s", TIMED_OUT) from None


@click.command("signal", short_help="Send a signal.")
@client_command
@click.option("--tree", is_flag=True, help="To the process and everything it started, not to its process group.")
@REFS
@click.argument("signal", metavar="SIG")
def signal_command(ol: Outlast, refs: tuple[str, ...], signal: str, *, tree: bool) -> None:
    """Send a signal, such as TERM, SIGHUP or 10, to processes."""
    each_of(refs, lambda ref: ol.process(ref).signal(signal, scope="tree" if tree else None))


@click.command("stop", short_help="Ask processes to end, and kill them if they do not.")
@client_command
@click.option("--grace", type=duration, metavar="TIME", help="Kill after so long. [their own stop_grace_ms, or 10s]")
@REFS
def stop_command(ol: Outlast, refs: tuple[str, ...], grace: float | None) -> None:
    """Ask processes to end by their stop signal, and kill them and everything they started if they do not in time.

    Managed processes are stopped for good.
    """
    each_of(refs, lambda ref: _tell(ref, ol.process(ref).stop(grace)))


@click.command("kill", short_help="Kill processes and everything they started.")
@client_command
@REFS
def kill_command(ol: Outlast, refs: tuple[str, ...]) -> None:
    """Kill processes and everything they started. Managed processes are stopped for good, as by `outlast stop`."""
    each_of(refs, lambda ref: _tell(ref, ol.process(ref).kill()))


@click.command("restart", short_help="Restart managed processes.")
@client_command
@REFS
def restart_command(ol: Outlast, refs: tuple[str, ...]) -> None:
    """Restart managed processes: those with a name, a restart policy or a health check."""

    def restart(ref: str) -> None:
        ol.process(ref).restart()
        print_result(ref)

    each_of(refs, restart)


@click.command("rm", short_help="Delete processes that have ended, and their output.")
@client_command
@click.option("-f", "--force", is_flag=True, help="Also those that run: they are killed.")
@REFS
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
@REF
@click.argument("text", required=False)
def send_command(ol: Outlast, ref: str, text: str | None, *, eof: bool) -> None:
    """Write TEXT and a line end to the standard input of a process, or with - the bytes of our own."""
    if text is None and not eof:
        raise click.UsageError("nothing to write: give TEXT, - or --eof")
    process = ol.process(ref)
    try:
        if text == "-":
            while data := os.read(sys.stdin.fileno(), _READ_BYTES):
                process.send(data)
        elif text is not None:
            process.send(f"{text}\n".encode("utf-8", "surrogateescape"))
        if eof:
            process.close_stdin()
    except StdinNotWritable:
        raise Failure(
            f"{ref} has no standard input that is open: `outlast run -di` starts a process with one", 1
        ) from None


def _tell(ref: str, warnings: list[str]) -> None:
    print_result(ref)
    for warning in warnings:
        say(f"outlast: {ref}: {warning}", err=True)
