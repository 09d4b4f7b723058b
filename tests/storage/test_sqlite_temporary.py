"""SQLite needs no folder for temporary files: all that it keeps aside is in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PLACES = ("/var/tmp", "/usr/tmp", "/tmp")  # where SQLite looks, besides the working directory
_RUN = """
mount --bind "$1" /mnt && shift
for place in {places}; do
    [ ! -d $place ] || {{ mount --bind $place $place && mount -o remount,ro,bind $place; }} || exit 75
done
cd /tmp && exec "$@"
"""


def _run_without_temporary_folders(folder: Path, *command: str) -> str:
    script = _RUN.format(places=" ".join(_PLACES))
    environment = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "SQLITE_TMPDIR")}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), *command],
        env=environment | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        if "CI" in os.environ:
            pytest.fail("CI must be able to make a mount namespace")
        pytest.skip("needs the right to make a mount namespace")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_needs_a_temporary_folder(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tests.storage.all_calls", "/mnt/outlast.db")
    assert _run_without_temporary_folders(tmp_path, *command) == "done\n"
