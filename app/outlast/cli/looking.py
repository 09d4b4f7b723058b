"""`runs`, `stats` and `open`: a closer look at a process."""

import time
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote, urlencode

import click

from outlast.cli.connect import Failure, Screen, client_command, screen_command
from outlast.cli.messages import print_result
from outlast.cli.moments import show_age, show_day, show_moment
from outlast.cli.processes import how_it_ended
from outlast.cli.references import OPTIONAL_REF, REF, REFS, word_of
from outlast.cli.tables import Column, Row, show_size
from outlast.client import Outlast, Process, Run

_RUNS = [
    Column("RUN", right=True),
    Column("PID", right=True, leaves=2),
    Column("STATUS"),
    Column("STARTED", leaves=1),
    Column("TOOK", right=True),
]
_STATS = [
    Column("NAME"),
    Column("RUN", right=True, leaves=3),
    Column("CPU", right=True),
    Column("MEM", right=True),
    Column("PEAK", right=True, leaves=1),
    Column("PROCS", right=True, leaves=2),
    Column("THREADS", right=True, leaves=4),
    Column("FILES", right=True, leaves=5),
]


@click.command("runs", short_help="List the runs of a process.")
@screen_command(forms=True)
@click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="The last N runs. [all]")
@REF
def runs_command(screen: Screen, ol: Outlast, limit: int | None, ref: str) -> None:
    """List the runs of a process, newest first: how each ended, when it was started, and how long it took."""
    now_ms = round(time.time() * 1000)
    rows: list[Row] = []
    for run in ol.process(ref).runs():
        rows.append(_run_row(run, screen, now_ms))
        if len(rows) == limit:
            break
    screen.show(_RUNS, rows)


def _run_row(run: Run, screen: Screen, now_ms: int) -> Row:
    day = show_day(run.started_at, screen.zone).partition(" ")[0]
    is_running = run.ended_at is None
    cells = [
        str(run.run),
        str(run.pid),
        "up" if is_running else how_it_ended(run.reason, run.exit_code, run.signal),
        f"{day} {show_moment(run.started_at, 'clock', screen.zone)}",
        show_age(((now_ms if run.ended_at is None else run.ended_at) - run.started_at) / 1000),
    ]
    return Row(cells, asdict(run), str(run.run), is_past=not is_running)


@click.command("stats", short_help="Show what processes use.")
@screen_command(forms=True)
@REFS
def stats_command(screen: Screen, ol: Outlast, refs: tuple[str, ...]) -> None:
    """Show processor time and memory of processes with all that they started: now, and the highest of the run.

    Of a process that has ended, the highest values alone. `watch outlast stats web` shows them again and again.
    """
    screen.show(_STATS, [_stats_row(ol.process(ref)) for ref in refs])


def _stats_row(process: Process) -> Row:
    stats = process.stats()
    now: Mapping[str, Any] = stats.current or {}
    memory = now.get("memory", {}).get("rss_bytes")
    percent = now.get("cpu", {}).get("percent")
    peak = stats.peak["memory"]["rss_bytes"]
    cells = [
        word_of(process),
        str(stats.run),
        "-" if percent is None else f"{percent:.1f}%",
        "-" if memory is None else show_size(memory),
        "-" if peak is None else show_size(peak),
        *(_count(now.get(name)) for name in ("processes", "threads", "open_files")),
    ]
    return Row(cells, asdict(stats), process.id, is_past=stats.current is None)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


@click.command("open", short_help="Open the web page in a browser.")
@client_command
@click.option("--print", "prints", is_flag=True, help="Print the address, which works once within a minute, instead.")
@OPTIONAL_REF
def open_command(ol: Outlast, ref: str | None, *, prints: bool) -> None:
    """Open the web page of the daemon in a browser that is then logged in, at a process if one is named."""
    if ol.address.socket:
        raise Failure("the daemon was found at a unix socket, which no browser opens: name a port with -H", 1)
    place = "/" if ref is None else f"/?{urlencode({'p': f'@{ol.process(ref).info.handle}'}, safe='@')}"
    address = f"{ol.address.url}{ol.login_path()}&next={quote(place, safe='/')}"
    if prints:
        print_result(address)
    elif not webbrowser.open(address):
        raise Failure("no browser was found: `outlast open --print` prints the address for another one", 1)
