"""The daemon's end of the socket to the shim."""

from outlast.shimlink.api_sockets import fetch_api_sockets
from outlast.shimlink.conversation import SHIM_LOG_NAME
from outlast.shimlink.daemon import connected_daemon
from outlast.shimlink.events import (
    LINK_BROKE,
    GreetingCut,
    KillOutcome,
    NotSent,
    ShimEvents,
    ShimLost,
    ShimProcess,
    ShimUsage,
    Spawned,
    SpawnRefused,
)
from outlast.shimlink.held_process import HeldProcess
from outlast.shimlink.launch import connect_or_start, find_running_shim
from outlast.shimlink.link import ShimLink
from outlast.shimlink.upgrade import upgrade_shim

__all__ = [
    "LINK_BROKE",
    "SHIM_LOG_NAME",
    "GreetingCut",
    "HeldProcess",
    "KillOutcome",
    "NotSent",
    "ShimEvents",
    "ShimLink",
    "ShimLost",
    "ShimProcess",
    "ShimUsage",
    "SpawnRefused",
    "Spawned",
    "connect_or_start",
    "connected_daemon",
    "fetch_api_sockets",
    "find_running_shim",
    "upgrade_shim",
]
