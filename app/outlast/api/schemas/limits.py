"""The `limits` of a start."""

from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.model.options import Limits

MIB = 1 << 20
MAX_BYTES = 1 << 47  # what a process can address
MAX_PIDS = 1 << 22  # what Linux can count
MIN_OPEN_FILES = 4  # the three standard ones, and one to load the program's libraries with
MAX_OPEN_FILES = 1 << 30
MAX_SECONDS = 1 << 31
MIN_CPUS, MAX_CPUS = 0.01, 4096


class LimitsBody(Strict):
    """Null, or left out: as the daemon itself."""

    cpu_seconds = fields.Integer(
        low=1,
        high=MAX_SECONDS,
        allow_none=True,
        metadata={
            "description": "Processor time of each of its processes. Ends it by SIGXCPU; a second later by SIGKILL."
        },
    )
    address_space_bytes = fields.Integer(
        low=MIB, high=MAX_BYTES, allow_none=True, metadata={"description": "Virtual memory of each of its processes."}
    )
    open_files = fields.Integer(
        low=MIN_OPEN_FILES,
        high=MAX_OPEN_FILES,
        allow_none=True,
        metadata={"description": "Open files of each of its processes."},
    )
    processes = fields.Integer(
        low=1,
        high=MAX_PIDS,
        allow_none=True,
        metadata={
            "description": "Processes and threads of its user, wherever they come from, beyond which it can make no "
            "more. The system does not hold root to it. `pids` bounds the tree alone."
        },
    )
    file_size_bytes = fields.Integer(
        high=MAX_BYTES,
        allow_none=True,
        metadata={"description": "Up to where it may write in any file; SIGXFSZ beyond."},
    )
    memory_bytes = fields.Integer(
        low=MIB,
        high=MAX_BYTES,
        allow_none=True,
        metadata={
            "description": "Memory of the whole tree, which gets no swap (cgroup v2). Where it does not do, the system "
            "ends the whole tree: `oom_killed`."
        },
    )
    cpus = fields.Float(
        low=MIN_CPUS,
        high=MAX_CPUS,
        allow_none=True,
        metadata={"description": "Processors that the whole tree may keep busy (cgroup v2).", "example": 0.5},
    )
    pids = fields.Integer(
        low=1,
        high=MAX_PIDS,
        allow_none=True,
        metadata={"description": "Processes and threads of the whole tree (cgroup v2)."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Limits:
        return Limits(**data)
