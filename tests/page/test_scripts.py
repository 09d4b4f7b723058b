"""The page's modules, as their tools judge them: types by tsc, mistakes by ESLint."""

import fcntl
import subprocess
from pathlib import Path

import pytest

from tests.support.required import give_up, program

ROOT = Path(__file__).parents[2]
WEB = ROOT / "app" / "outlast" / "web"
CHECKS = Path(__file__).with_name("checks")
BIN = CHECKS / "node_modules" / ".bin"
_INSTALL = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
_INSTALL_S = 300


def install() -> None:
    """Install the tools once for each lock file; without npm or its registry skip the test, and fail it in CI."""
    stamp = CHECKS / "node_modules" / "installed.json"
    with (CHECKS / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run in several processes
        wanted = lock.read()
        if stamp.exists() and stamp.read_bytes() == wanted:
            return
        program("npm")
        try:
            subprocess.run(_INSTALL, cwd=CHECKS, capture_output=True, timeout=_INSTALL_S, check=True)
        except subprocess.TimeoutExpired:
            give_up(f"npm did not install the tools in {_INSTALL_S} s")
        except subprocess.CalledProcessError as error:
            give_up(f"npm could not install the tools: {error.stderr.decode(errors='replace')}")
        stamp.write_bytes(wanted)


@pytest.mark.parametrize(
    "command",
    [
        [str(BIN / "tsc"), "--project", str(CHECKS)],
        [str(BIN / "eslint"), "--config", str(CHECKS / "eslint.config.js"), str(WEB)],
    ],
    ids=["types", "mistakes"],
)
def test_the_modules_pass(command: list[str]) -> None:
    install()
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
