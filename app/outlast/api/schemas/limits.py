"""The field `limits` of a start."""

from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.model.options import Limits

MIB = 1 << 20
MAX_BYTES = 1 << 47  # the address space of a process
MAX_PIDS = 1 << 22  # the kernel's largest pid_max
MIN_OPEN_FILES = 4  # the three standard streams, and one to load the program's libraries with
MAX_OPEN_FILES = 1 << 30
MAX_SECONDS = 1 << 31
MIN_CPUS, MAX_CPUS = 0.01, 4096


class LimitsBody(Strict):
    """`limits` of a start. A limit that is null or left out is the daemon's own. Loads as `Limits`."""

    cpu_seconds = fields.Integer(
        low=1,
        high=MAX_SECONDS,
        allow_none=True,
        metadata={
            "description": "CPU time of each process of the tree, in seconds. When it is exceeded, the kernel sends "
            "SIGXCPU, and SIGKILL a second later."
        },
    )
    address_space_bytes = fields.Integer(
        low=MIB,
        high=MAX_BYTES,
        allow_none=True,
        metadata={"description": "Virtual memory of each process of the tree."},
    )
    open_files = fields.Integer(
        low=MIN_OPEN_FILES,
        high=MAX_OPEN_FILES,
        allow_none=True,
        metadata={"description": "Open file descriptors of each process of the tree."},
    )
    processes = fields.Integer(
        low=1,
        high=MAX_PIDS,
        allow_none=True,
        metadata={
            "description": "Processes and threads of the user, all together (RLIMIT_NPROC); at the limit, the process "
            "cannot create more. The kernel does not apply it to root. `pids` limits this tree alone."
        },
    )
    file_size_bytes = fields.Integer(
        high=MAX_BYTES,
        allow_none=True,
        metadata={
            "description": "Largest file that each process of the tree may write. The kernel sends SIGXFSZ beyond it."
        },
    )
    memory_bytes = fields.Integer(
        low=MIB,
        high=MAX_BYTES,
        allow_none=True,
        metadata={
            "description": "Memory of the whole process tree, without swap (cgroup v2). When the limit is exceeded, "
            "the kernel kills the whole process tree (`oom_killed`)."
        },
    )
    cpus = fields.Float(
        low=MIN_CPUS,
        high=MAX_CPUS,
        allow_none=True,
        metadata={"description": "CPUs that the whole process tree may use (cgroup v2), such as 0.5.", "example": 0.5},
    )
    pids = fields.Integer(
        low=1,
        high=MAX_PIDS,
        allow_none=True,
        metadata={"description": "Processes and threads of the whole process tree (cgroup v2)."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Limits:
        return Limits(**data)
