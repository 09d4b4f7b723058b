"""What is written into the files of a cgroup, tried on folders: a real controller is seldom delegated to a test."""

import errno
import os
from pathlib import Path

import pytest

from outlast.linux.cgroup import contains, members
from outlast.shim.kill.cgroup import _delegated_base
from outlast.shim.launch.limits import LimitRefused, bound_group, oom_kills

BOUNDS = {"memory_bytes": 64 << 20, "cpus": 0.5, "pids": 20}
FILES = ("memory.max", "memory.oom.group", "memory.swap.max", "cpu.max", "pids.max")


def tree(folder: Path, *, available: str, enabled: str = "", without: str = "") -> Path:
    """Make the folder of a base, ours in it, and in that one process's, which is returned."""
    group = folder / "base" / "outlast-1" / "id"
    group.mkdir(parents=True)
    for level in (group.parent.parent, group.parent):
        (level / "cgroup.controllers").write_text(available)
        (level / "cgroup.subtree_control").write_text(enabled)
    for name in FILES:
        if name != without:
            (group / name).write_text("")
    return group


def test_a_group_is_bounded(tmp_path: Path) -> None:
    group = tree(tmp_path, available="cpu memory pids", enabled="cpu memory pids")
    bound_group(str(group), {**BOUNDS, "open_files": 5})
    assert {file.name: file.read_text() for file in group.iterdir()} == {
        "memory.max": "67108864",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
        "pids.max": "20",
    }


def test_a_controller_is_passed_on_downwards(tmp_path: Path) -> None:
    group = tree(tmp_path, available="cpu memory pids")
    bound_group(str(group), {"pids": 7})
    assert [(level / "cgroup.subtree_control").read_text() for level in (group.parent.parent, group.parent)] == [
        "+pids"
    ] * 2
    assert (group / "pids.max").read_text() == "7"


def test_without_swap_there_is_nothing_to_bound_it_by(tmp_path: Path) -> None:
    group = tree(tmp_path, available="memory", enabled="memory", without="memory.swap.max")
    bound_group(str(group), {"memory_bytes": 1 << 20})
    assert not (group / "memory.swap.max").exists()


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    group = tree(tmp_path, available="hugetlb")
    for where, number in ((str(group), errno.ENODEV), (None, errno.EOPNOTSUPP)):
        with pytest.raises(LimitRefused) as refused:
            bound_group(where, {name: BOUNDS[name]})
        assert refused.value.errno == number
        assert name in str(refused.value.limit)
    for file in (group / "memory.max", group / "cpu.max", group / "pids.max"):
        file.unlink()
    for level in (group.parent.parent, group.parent):
        (level / "cgroup.subtree_control").write_text("cpu memory pids")
    with pytest.raises(LimitRefused) as refused:  # a kernel that has the controller, and not this file of it
        bound_group(str(group), {name: BOUNDS[name]})
    assert refused.value.errno == errno.ENOENT
    assert not (group / "memory.max").exists()


def test_what_the_system_has_ended_is_counted(tmp_path: Path) -> None:
    assert oom_kills(None) == 0
    assert oom_kills(str(tmp_path)) == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 1\n")
    assert oom_kills(str(tmp_path)) == 3


def test_groups_are_made_above_a_delegated_subgroup(tmp_path: Path) -> None:
    own = tmp_path / "unit" / "daemon"
    own.mkdir(parents=True)
    assert _delegated_base(own) == own
    try:
        os.setxattr(own.parent, "user.delegate", b"1")
    except OSError as exc:
        pytest.skip(f"this file system keeps no attributes: {exc}")
    assert _delegated_base(own) == own.parent


def test_who_lives_in_a_group(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "cgroup.procs").write_text("1\n22\n")
    (inner / "cgroup.procs").write_text("333\n")
    assert members(str(tmp_path)) == {1, 22, 333}
    assert members(str(tmp_path / "gone")) == set()
    assert not contains(str(tmp_path), os.getpid())
