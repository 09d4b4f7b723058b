"""The peer from npm: pm2, told over the standard input of `peers/pm2.mjs` when to start the program."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bench.peer import running

_PEERS = Path(__file__).with_name("peers")
_PACKAGE = _PEERS / "node_modules" / "pm2" / "package.json"


def missing() -> str:
    """Return why pm2 cannot run here; empty if it can."""
    if shutil.which("node") is None:
        return "node is missing"
    return "" if _PACKAGE.exists() else "not installed: `make bench` does it, where npm is"


def version() -> str:
    """Return the versions of pm2 and of node.

    Raises:
        OSError: pm2 is `missing`.
    """
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{json.loads(_PACKAGE.read_bytes())['version']} on node {node.removeprefix('v')}"


class Pm2:
    """A running pm2 with one program, which is not started yet."""

    def __init__(self, output: Path, orders: IO[bytes]) -> None:
        self.output = output
        self._orders = orders

    def start_program(self) -> None:
        """Start the program, and wait for nothing."""
        self._orders.write(b"start\n")
        self._orders.flush()


@contextlib.contextmanager
def pm2(folder: Path, script: Path) -> Iterator[Pm2]:
    """Run pm2 in `folder`, with the shell script as its one program.

    Raises:
        RuntimeError: pm2 did not start.
    """
    output, is_up, lasting = folder / "stdout.log", folder / "up", folder / "lasting.sh"
    # pm2 drops unwritten output when a program ends, so the program stays until its input is closed.
    lasting.write_text(f"/bin/sh {script}\nread _\n", encoding="utf-8")
    environment = {
        **os.environ,
        "PM2_HOME": str(folder / "home"),
        "PM2_DISABLE_VERSION_CHECK": "1",  # the check uses the network
    }
    argv = ["node", str(_PEERS / "pm2.mjs"), str(lasting), str(output), str(is_up)]
    with running(argv, ready=is_up.exists, log=folder / "pm2.log", environment=environment) as process:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        yield Pm2(output, process.stdin)
