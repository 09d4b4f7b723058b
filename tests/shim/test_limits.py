"""Limits of a cgroup, written to plain folders: a controller is seldom delegated to a test."""

import errno
import os
from pathlib import Path

import pytest

from outlast.linux.cgroup import contains, members
from outlast.shim.kill.cgroup import _delegated_base
from outlast.shim.launch.limits import LimitRefused, limit_group, oom_kills

LIMITS = {"memory_bytes": 64 << 20, "cpus": 0.5, "pids": 20}
FILES = ("memory.max", "memory.oom.group", "memory.swap.max", "cpu.max", "pids.max")


def tree(folder: Path, *, available: str, enabled: str = "", without: str = "") -> Path:
    """Make the folders of a base cgroup, of the shim's in it, and of a process's in that. Return the last."""
    group = folder / "base" / "outlast-1" / "id"
    group.mkdir(parents=True)
    for level in (group.parent.parent, group.parent):
        (level / "cgroup.controllers").write_text(available)
        (level / "cgroup.subtree_control").write_text(enabled)
    for name in FILES:
        if name != without:
            (group / name).write_text("")
    return group


def test_all_limits_of_a_group_are_set(tmp_path: Path) -> None:
    group = tree(tmp_path, available="cpu memory pids", enabled="cpu memory pids")
    limit_group(str(group), {**LIMITS, "open_files": 5})
    assert {file.name: file.read_text() for file in group.iterdir()} == {
        "memory.max": "67108864",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
        "pids.max": "20",
    }


def test_a_controller_is_passed_on_downwards(tmp_path: Path) -> None:
    group = tree(tmp_path, available="cpu memory pids")
    limit_group(str(group), {"pids": 7})
    assert [(level / "cgroup.subtree_control").read_text() for level in (group.parent.parent, group.parent)] == [
        "+pids"
    ] * 2
    assert (group / "pids.max").read_text() == "7"


def test_a_system_without_swap_has_no_swap_limit(tmp_path: Path) -> None:
    group = tree(tmp_path, available="memory", enabled="memory", without="memory.swap.max")
    limit_group(str(group), {"memory_bytes": 1 << 20})
    assert not (group / "memory.swap.max").exists()


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_without_its_controller_is_refused(tmp_path: Path, name: str) -> None:
    group = tree(tmp_path, available="hugetlb")
    for where, number in ((str(group), errno.ENODEV), (None, errno.EOPNOTSUPP)):
        with pytest.raises(LimitRefused) as refused:
            limit_group(where, {name: LIMITS[name]})
        assert refused.value.errno == number
        assert name in str(refused.value.limit)
    for file in (group / "memory.max", group / "cpu.max", group / "pids.max"):
        file.unlink()
    for level in (group.parent.parent, group.parent):
        (level / "cgroup.subtree_control").write_text("cpu memory pids")
    with pytest.raises(LimitRefused) as refused:  # the kernel has the controller, but not this file of it
        limit_group(str(group), {name: LIMITS[name]})
    assert refused.value.errno == errno.ENOENT
    assert not (group / "memory.max").exists()


def test_oom_kills_are_counted(tmp_path: Path) -> None:
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


def test_members_of_a_group(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "cgroup.procs").write_text("1\n22\n")
    (inner / "cgroup.procs").write_text("333\n")
    assert members(str(tmp_path)) == {1, 22, 333}
    assert members(str(tmp_path / "gone")) == set()
    assert not contains(str(tmp_path), os.getpid())
