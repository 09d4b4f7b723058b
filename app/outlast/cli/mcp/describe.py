"""Processes in words."""

import time

from outlast.cli.mcp.quoting import NAME_CHARACTERS, quote
from outlast.cli.moments import show_age
from outlast.cli.processes import status_of
from outlast.client import ProcessInfo

_COMMAND_CHARACTERS = 200
_SHOWN_TAGS = 5


def called(info: ProcessInfo) -> str:
    """Return what a process is called, such as `web (@12)`: each of both names it in a call."""
    return f"{quote(info.name)} (@{info.handle})" if info.name else f"@{info.handle}"


def ref_of(info: ProcessInfo) -> str:
    """Return the word that names a process in the next call."""
    return quote(info.name) if info.name and len(info.name) <= NAME_CHARACTERS else f"@{info.handle}"


def state(info: ProcessInfo) -> str:
    """Return status, age and amount of output of a process, such as `up, healthy for 3h12m; 1,204 lines`."""
    since_ms = info.started_at if info.ended_at is None else info.ended_at
    age = show_age(max(0, time.time_ns() // 1_000_000 - since_ms) / 1000)
    how = f"{status_of(info)} for {age}" if info.ended_at is None else f"{status_of(info)} {age} ago"
    run = f", run {info.run}" if info.run > 1 else ""
    count = f"{info.output.lines:,} line{'' if info.output.lines == 1 else 's'}"
    return f"{how}{run}; {count}"


def row(info: ProcessInfo) -> str:
    """Return a process on one line, for a list."""
    tags = [f"{key}={value}" for key, value in info.tags.items()]
    parts = [
        f"{called(info)}: {state(info)}",
        quote(" ".join(tags[:_SHOWN_TAGS])),
        f"in {quote(info.working_dir)}",
        f"$ {quote(' '.join((info.command, *info.args)), _COMMAND_CHARACTERS)}",
    ]
    return "; ".join(part for part in parts if part)
