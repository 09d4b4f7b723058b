"""Figures of this process, beside what the kernel and the interpreter tell in other ways."""

import os
import resource
import threading
import time
from pathlib import Path

from outlast.linux.own_usage import own_usage, start_time


def test_figures_agree_with_the_kernel() -> None:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    before = time.process_time()
    used = own_usage()
    assert before - 0.1 <= used.cpu_s <= time.process_time() + 0.1
    assert used.threads >= threading.active_count()
    assert used.most_files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert abs(used.resident_bytes - int(status["VmRSS"].split()[0]) * 1024) < 32 << 20
    assert abs(used.virtual_bytes - int(status["VmSize"].split()[0]) * 1024) < 32 << 20


def test_open_files_are_counted() -> None:
    before = own_usage().open_files
    reader, writer = os.pipe()
    assert own_usage().open_files == before + 2
    os.close(reader)
    os.close(writer)
    assert own_usage().open_files == before


def test_the_start_does_not_move() -> None:
    first = start_time()
    assert abs(start_time() - first) < 0.5
    boot = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert abs(first - boot - ticks / os.sysconf("SC_CLK_TCK")) < 2
