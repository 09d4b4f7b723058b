"""Resources that this process itself uses."""

import os
import resource
import time
from typing import NamedTuple

from outlast.linux.descriptors import limit

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class OwnUsage(NamedTuple):
    """Resources of this process.

    Attributes:
        cpu_s: processor time.
        virtual_bytes: size of its address space.
        resident_bytes: resident memory.
        threads: number of its threads.
        open_files: number of open descriptors.
        most_files: number of descriptors that it may have open.
    """

    cpu_s: float
    virtual_bytes: int
    resident_bytes: int
    threads: int
    open_files: int
    most_files: int


def own_usage() -> OwnUsage:
    """Measure this process.

    Raises:
        OSError: /proc cannot be read.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The kernel counts the descriptors since Linux 6.2. The descriptor by which they are listed is one too many.
    open_files = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    return OwnUsage(
        cpu_s=used.ru_utime + used.ru_stime,
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
        threads=int(fields[17]),
        open_files=open_files,
        most_files=limit(),
    )


def start_time() -> float:
    """Return when this process started, in seconds since the epoch by the clock of today.

    Raises:
        OSError: /proc cannot be read.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        start_ticks = int(file.read().rpartition(b")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / _TICKS_PER_S)
