"""Cgroups that a process was still in when they were to be removed."""

import subprocess
import sys
from pathlib import Path

import pytest

import outlast
from outlast.shim.kill.cgroup import CgroupRoot


def test_a_group_that_lingered_is_removed_when_the_next_one_is_discarded(tmp_path: Path) -> None:
    root = CgroupRoot.create(tmp_path)
    if root is None:
        pytest.skip("no control groups can be made here")
    lingering, other = root.create_group("lingering"), root.create_group("other")
    assert lingering is not None
    assert other is not None
    program = f"import sys; sys.path.insert(0, {str(Path(outlast.__file__).parents[1])!r}); "
    program += f"from outlast.linux.clone import join_cgroup; join_cgroup({lingering!r}); "
    program += "print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        root.discard_group(lingering)
        assert Path(lingering).exists()
        process.kill()
    root.discard_group(other)
    assert not Path(lingering).exists()
    assert root.remove()
