"""The storage contract (`base`), how a plug-in is found (`registry`), and the plug-ins that ship with Outlast."""

from app.storage.base import (
    AddEvent,
    AddProcess,
    Change,
    Chunk,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    Storage,
    Unfinished,
    WithdrawProcess,
)
from app.storage.registry import storage_from_url

__all__ = [
    "AddEvent",
    "AddProcess",
    "Change",
    "Chunk",
    "CompleteOutput",
    "EndRun",
    "PurgeProcess",
    "Storage",
    "Unfinished",
    "WithdrawProcess",
    "storage_from_url",
]
