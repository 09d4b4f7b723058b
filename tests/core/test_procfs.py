import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from outlast.core.usage import procfs
from outlast.linux.cgroup import members
from outlast.wire.contract import PROCESS_ID_VARIABLE

TREE = """
import os, time
def sleep(name):
    os.write(1, b"%s %d\\n" % (name, os.getpid())); time.sleep(1000)
if os.fork() == 0:
    sleep(b"child")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        sleep(b"grandchild")
    os._exit(0)
os.wait()
sleep(b"leader")
"""


PAIR = """
import os, time
name = b"leader" if os.fork() else b"child"
os.write(1, b"%s %d\\n" % (name, os.getpid()))
time.sleep(1000)
"""


@contextmanager
def running(program: str, lines: int, **environment: str) -> Iterator[dict[str, int]]:
    """Run a program in its own session, and return the pids that it prints, by name."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **environment},
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = {"": process.pid}
        try:
            for _ in range(lines):
                name, number = process.stdout.readline().split()
                pids[name] = int(number)
            del pids[""]
            yield pids
        finally:
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)


def test_a_tree_without_a_group_is_found() -> None:
    with (
        running(TREE, 3, **{PROCESS_ID_VARIABLE: "one"}) as one,
        running(TREE, 3, **{PROCESS_ID_VARIABLE: "two"}) as two,
    ):
        trees = procfs.Trees()
        for leaders in ({one["leader"]: "one"}, {one["leader"]: "one", two["leader"]: "two"}):
            found = trees.find_pids(leaders)
            assert sorted(found["one"]) == sorted(one.values())
        assert sorted(found["two"]) == sorted(two.values())
        assert procfs.Trees().find_pids({}) == {}


def test_a_process_stays_in_its_tree() -> None:
    """A process is recognized by its session and its parent, and then has neither any more."""
    with running(PAIR, 2) as pids:
        trees = procfs.Trees()
        assert sorted(trees.find_pids({pids["leader"]: "x"})["x"]) == sorted(pids.values())
        assert sorted(trees.find_pids({1 << 30: "x"})["x"]) == sorted(pids.values())
        assert procfs.Trees().find_pids({1 << 30: "x"}) == {"x": []}


def test_a_figure_that_may_not_be_read_is_unknown() -> None:
    look = (
        "import os, sys\nfrom outlast.core.usage import procfs\n"
        "if os.geteuid() == 0: os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sample = procfs.measure([1, os.getpid()], with_pss=True)\n"
        "assert sample.pss_bytes is None, sample\n"
        "assert sample.open_files is None or sample.open_files > 0\n"
        "assert sample.processes == 2 and sample.rss_bytes > 0\n"
    )
    subprocess.run([sys.executable, "-c", look], check=True)


def test_an_ended_process_uses_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert procfs.measure([process.pid], with_pss=True) is None
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert procfs.measure([process.pid], with_pss=True) is None  # a zombie
    assert members("/nowhere") == set()
    assert procfs.group_cpu_us("/nowhere") is None


def test_this_process_is_measured() -> None:
    sample = procfs.measure([os.getpid()], with_pss=True)
    assert sample is not None
    assert sample.processes == 1
    assert sample.open_files is not None
    assert 3 <= sample.open_files <= len(os.listdir("/proc/self/fd"))
    assert sample.pss_bytes is not None
    assert sample.pss_bytes > 1 << 20
    assert sample.rss_bytes > 1 << 20
    assert procfs.measure([os.getpid()], with_pss=False, cpu_us=(7000, 8999))[4:6] == (7, 8)  # type: ignore[index]
