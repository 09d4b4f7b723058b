"""The Python client: `Outlast` for programs that may block, `AsyncOutlast` for event loops."""

from typing import TYPE_CHECKING, Any

from outlast.client.errors import Disconnected, ProcessFailed, ProcessGone, Unauthorized, UnexpectedAnswer
from outlast.client.items import Ended, Event, Gap, Line, Member, Started
from outlast.client.options import StartOptions
from outlast.client.records import Completed, Info, ManagedInfo, Match, OutputSummary, ProcessInfo, Rows, Run, Stats
from outlast.client.sync_client import Outlast
from outlast.client.sync_process import Process
from outlast.model.errors import (
    ConfigError,
    EnvKeyLost,
    Forbidden,
    Interrupted,
    InvalidRequest,
    NameInUse,
    NotFound,
    NotManaged,
    NotRunning,
    OutlastError,
    SpawnFailed,
    StdinNotWritable,
    TooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    from outlast.client.async_client import AsyncOutlast
    from outlast.client.async_process import AsyncProcess
    from outlast.client.async_terminal import AsyncTerminal
    from outlast.client.sync_terminal import Terminal

__all__ = [
    "AsyncOutlast",
    "AsyncProcess",
    "AsyncTerminal",
    "Completed",
    "ConfigError",
    "Disconnected",
    "Ended",
    "EnvKeyLost",
    "Event",
    "Forbidden",
    "Gap",
    "Info",
    "Interrupted",
    "InvalidRequest",
    "Line",
    "ManagedInfo",
    "Match",
    "Member",
    "NameInUse",
    "NotFound",
    "NotManaged",
    "NotRunning",
    "Outlast",
    "OutlastError",
    "OutputSummary",
    "Process",
    "ProcessFailed",
    "ProcessGone",
    "ProcessInfo",
    "Rows",
    "Run",
    "SpawnFailed",
    "StartOptions",
    "Started",
    "Stats",
    "StdinNotWritable",
    "Terminal",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
]


def __getattr__(name: str) -> Any:
    """Import what needs an event loop, or few programs, when it is first asked for.

    aiohttp takes ten times as long as all the rest.
    """
    if name == "AsyncOutlast":
        from outlast.client.async_client import AsyncOutlast  # noqa: PLC0415 - see above

        return AsyncOutlast
    if name == "AsyncProcess":
        from outlast.client.async_process import AsyncProcess  # noqa: PLC0415 - see above

        return AsyncProcess
    if name == "AsyncTerminal":
        from outlast.client.async_terminal import AsyncTerminal  # noqa: PLC0415 - see above

        return AsyncTerminal
    if name == "Terminal":
        from outlast.client.sync_terminal import Terminal  # noqa: PLC0415 - see above

        return Terminal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
