"""The storage contract (`base`), how a plug-in is found (`registry`), and the plug-ins that ship with Outlast."""

from outlast.storage.base import (
    AddEvent,
    AddProcess,
    BeginRun,
    Change,
    Chunk,
    CompleteOutput,
    EndRun,
    Owner,
    PurgeProcess,
    RecordUsage,
    ResizeTerminal,
    SetManaged,
    Storage,
    Unfinished,
    WithdrawProcess,
    WithdrawRun,
)
from outlast.storage.registry import storage_from_url

__all__ = [
    "AddEvent",
    "AddProcess",
    "BeginRun",
    "Change",
    "Chunk",
    "CompleteOutput",
    "EndRun",
    "Owner",
    "PurgeProcess",
    "RecordUsage",
    "ResizeTerminal",
    "SetManaged",
    "Storage",
    "Unfinished",
    "WithdrawProcess",
    "WithdrawRun",
    "storage_from_url",
]
