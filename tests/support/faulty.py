"""A store that fails on command under a real daemon, found by its entry point like anybody's plug-in."""

import os
from pathlib import Path
from typing import Any

from outlast.testing.storage.faulty import Fault, Mode, inject


class FaultyStore:
    """SQLite in a state folder, behind `outlast.testing.storage.faulty`."""

    def __init__(self, folder: Path, state_dir: Path) -> None:
        self.control = folder / "control.json"
        self.url = f"faulty:{self.control}?sqlite:///{state_dir}/outlast.db"
        self._path = folder / "plugins"
        information = self._path / "outlast_faulty-0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outlast-faulty\nVersion: 0\n")
        (information / "entry_points.txt").write_text(
            "[outlast.storage]\nfaulty = outlast.testing.storage.faulty:FaultyStorage\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a daemon that has the plug-in installed and uses it."""
        paths = [str(self._path), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths), "OUTLAST_STORAGE": self.url}

    def inject(self, mode: Mode, **fields: Any) -> None:
        """Let this go wrong from now on."""
        inject(self.control, Fault(mode=mode, **fields))

    def mend(self) -> None:
        """Let nothing go wrong from now on."""
        inject(self.control, Fault())
