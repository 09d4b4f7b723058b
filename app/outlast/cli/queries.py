"""`events` and `search`: what happened, and what was printed, in all processes."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict

import click

from outlast.cli.connect import INTERRUPTED, Screen, screen_command
from outlast.cli.line_filter import compiled
from outlast.cli.messages import print_result, say
from outlast.cli.moments import moment, show_day, show_moment
from outlast.cli.processes import how_it_ended, read_tags
from outlast.cli.references import OPTIONAL_REF
from outlast.cli.tables import Column, Row, as_json
from outlast.cli.terminal import BOLD, DIM, RED, bar_of, cells, colour_of, pad, paint, printable
from outlast.client import Event, Gap, InvalidRequest, Match, Outlast
from outlast.linux.messages import escape
from outlast.model.event import EventType

_TYPE = click.Choice([kind.value for kind in EventType])
_COLUMNS = [
    Column("TIME"),
    Column("TYPE"),
    Column("NAME"),
    Column("PID", right=True, leaves=3),
    Column("RUN", right=True, leaves=2),
    Column("END", leaves=1),
    Column("ID", is_wide=True, leaves=4),
]
_NAME_CELLS, _PID_CELLS, _RUN_CELLS = 8, 7, 3


@click.command("events", short_help="Show starts, restarts and ends of processes.")
@screen_command(forms=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events, until Ctrl-C.")
@click.option("--type", "types", type=_TYPE, multiple=True, help="Only this type; may be repeated.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Only of processes with this tag; may be repeated.")
@click.option("--since", type=moment, metavar="T", help="Only since then, such as 10m.")
@OPTIONAL_REF
def events_command(
    screen: Screen,
    ol: Outlast,
    types: tuple[str, ...],
    tags: tuple[str, ...],
    since: int | None,
    ref: str | None,
    *,
    follow: bool,
) -> None:
    """Show stored events, of all processes or of one; with -f, go on with new ones."""
    found = ol.events(
        process=ol.process(ref).id if ref else None,
        types=types or None,
        tags=read_tags(tags),
        since=since,
        follow=follow,
        on_reconnect=lambda last: say(f"outlast: the connection broke; going on at event {last}", err=True),
    )
    if not follow:
        screen.show(_COLUMNS, [_row(event, screen) for event in _saying_gaps(found)])
        return
    widths = [0, max(map(len, EventType)), _NAME_CELLS, _PID_CELLS, _RUN_CELLS, 0]  # those of all events are not known
    try:
        for event in _saying_gaps(found):
            if screen.form in {"json", "jsonl"}:
                print_result(as_json(asdict(event)))
            else:
                words = [escape(cell) for cell in _row(event, screen).cells[: len(widths)]]
                widths = [max(width, cells(word)) for width, word in zip(widths, words, strict=True)]
                told = zip(words, widths, _COLUMNS, strict=False)
                print_result("  ".join(pad(word, width, right=column.right) for word, width, column in told).rstrip())
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


def _saying_gaps(found: Iterable[Event | Gap]) -> Iterator[Event]:
    """Yield the events, and say of a gap what is missing."""
    for event in found:
        if isinstance(event, Gap):
            say(f"outlast: events {event.first} to {event.last} were deleted: they were too old", err=True)
        else:
            yield event


def _row(event: Event, screen: Screen) -> Row:
    has_ended = event.type in {"exited", "lost"}
    day = show_day(event.timestamp, screen.zone).partition(" ")[0]
    shown = [
        f"{day} {show_moment(event.timestamp, 'clock', screen.zone)}",
        event.type,
        event.name or "-",
        str(event.pid),
        str(event.run),
        how_it_ended(event.reason, event.exit_code, event.signal) if has_ended else "",
        event.process_id,
    ]
    return Row(shown, asdict(event), event.process_id)


@click.command("search", short_help="Search the output of all processes.")
@screen_command()
@click.option("-F", "--fixed", is_flag=True, help="RE is plain text, not an expression.")
@click.option("-i", "--ignore-case", is_flag=True, help="Upper and lower case are the same.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Only of processes with this tag; may be repeated.")
@click.option("--name", help="Only of processes with this name.")
@click.option("--since", type=moment, metavar="T", help="Only lines since then, such as 10m.")
@click.option("--until", type=moment, metavar="T", help="Only lines until then.")
@click.option("--jsonl", is_flag=True, help="A JSON object for each line.")
@click.argument("text", metavar="RE")
def search_command(
    screen: Screen,
    ol: Outlast,
    text: str,
    tags: tuple[str, ...],
    name: str | None,
    since: int | None,
    until: int | None,
    *,
    fixed: bool,
    ignore_case: bool,
    jsonl: bool,
) -> None:
    """Show the lines that match an expression (RE2), oldest first. Exits with 1 if there is none, as grep does."""
    found = ol.search(
        text,
        regex=not fixed,
        ignore_case=ignore_case,
        tags=read_tags(tags),
        name=name,
        since=since,
        until=until,
        order="oldest",
        on_incomplete=lambda: say("outlast: output was deleted by a limit: lines that match may be missing", err=True),
    )
    is_empty = True
    try:
        for match in found:
            is_empty = False
            print_result(as_json(asdict(match)) if jsonl else _line(match, screen))
    except InvalidRequest:
        if not fixed:
            compiled(text, ignores_case=ignore_case)  # whose sentence is about the words of this command
        raise
    if is_empty:
        raise click.exceptions.Exit(1)


def _line(match: Match, screen: Screen) -> str:
    name = printable(match.name or f"@{match.handle}", colours=False)
    when = show_moment(match.timestamp, "iso", screen.zone)
    line = _marked(match, colours=screen.colours) if screen.is_terminal or screen.colours else match.line
    if screen.colours:
        name, when = paint(name, colour_of(match.process_id)), paint(when, DIM)
    return f"{name} {when} {bar_of(match.stream, colours=screen.colours)} {line}"


def _marked(match: Match, *, colours: bool) -> str:
    """Return the line for a terminal, with the places that match in colour, unless it has colours of its own."""
    if not colours or "\x1b" in match.line:
        return printable(match.line, colours=colours)
    shown, end = [], 0
    for first, behind in match.spans:
        shown.append(printable(match.line[end:first], colours=False))
        shown.append(paint(printable(match.line[first:behind], colours=False), _MATCH) if behind > first else "")
        end = behind
    return "".join(shown) + printable(match.line[end:], colours=False)


_MATCH = f"{BOLD};{RED}"
