"""The daemon's end of the shim's wire."""

from app.shimlink.launch import connect_or_start, find_running_shim
from app.shimlink.link import ShimEvents, ShimLink, ShimProcess, Spawned, SpawnRefused

__all__ = [
    "ShimEvents",
    "ShimLink",
    "ShimProcess",
    "SpawnRefused",
    "Spawned",
    "connect_or_start",
    "find_running_shim",
]
