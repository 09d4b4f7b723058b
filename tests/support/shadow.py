"""Daemons whose programs run something first, as an installation could: to take from them what others do not have."""

from pathlib import Path

from tests.support.daemon import Daemon

NO_GROUPS = "import outlast.shim.kill.cgroup as c\nc.CgroupRoot.create = classmethod(lambda cls, state_dir: None)\n"
"""No control groups can be made."""


def shadowed(state_dir: Path, program: str) -> Daemon:
    """Make a daemon in whose processes this is run first."""
    shadow = state_dir.parent / "shadow" / "sitecustomize.py"
    shadow.parent.mkdir()
    shadow.write_text(program)
    return Daemon(state_dir, PYTHONPATH=str(shadow.parent))
