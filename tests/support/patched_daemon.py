"""Daemons that run a patch first: to take away what other systems do not have, or to be of another version."""

from pathlib import Path

from tests.support.daemon import Daemon

NO_GROUPS = "import outlast.shim.kill.cgroup as c\nc.CgroupRoot.create = classmethod(lambda cls, state_dir: None)\n"
"""A patch for a system on which cgroups cannot be used."""


def patched_daemon(state_dir: Path, patch: str) -> Daemon:
    """Return a daemon whose program, shim and commands run `patch` when they start."""
    file = state_dir.parent / "patch" / "sitecustomize.py"
    file.parent.mkdir()
    file.write_text(patch)
    return Daemon(state_dir, PYTHONPATH=str(file.parent))
