"""The daemon's end of the shim's wire."""

from app.shimlink.events import GreetingCut, ShimEvents, ShimLost, ShimProcess, Spawned, SpawnRefused
from app.shimlink.held import HeldProcess
from app.shimlink.launch import SHIM_LOG_NAME, connect_or_start, find_running_shim
from app.shimlink.link import ShimLink
from app.shimlink.upgrade import upgrade_shim

__all__ = [
    "SHIM_LOG_NAME",
    "GreetingCut",
    "HeldProcess",
    "ShimEvents",
    "ShimLink",
    "ShimLost",
    "ShimProcess",
    "SpawnRefused",
    "Spawned",
    "connect_or_start",
    "find_running_shim",
    "upgrade_shim",
]
