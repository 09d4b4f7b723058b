"""Daemons that run a patch first: to take away what other systems do not have, or to be of another version."""

from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.warm import SHIM_PATCH

NO_CGROUPS = "import outlast.shim.kill.cgroup as c\nc.CgroupRoot.create = classmethod(lambda cls, state_dir: None)\n"
"""A patch: control groups are not available."""


def patched_daemon(state_dir: Path, patch: str) -> Daemon:
    """Make a daemon, not started, whose interpreters (its shim's too) run `patch` first."""
    module = state_dir.parent / (SHIM_PATCH if patch == NO_CGROUPS else "patch") / "sitecustomize.py"
    module.parent.mkdir()
    module.write_text(patch)
    return Daemon(state_dir, PYTHONPATH=str(module.parent))
