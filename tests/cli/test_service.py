"""`service install`: unit files for this installation, and what is asked of systemd."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import OUTLAST


@pytest.fixture
def systemctl(tmp_path: Path) -> Path:
    """A folder with a `systemctl` that writes its arguments down, and the file that it writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    return tmp_path / "asked"


def install(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": f"{tmp_path}/config",
        "OUTLAST_STATE_DIR": f"{tmp_path}/state",
    }
    return subprocess.run(
        [*OUTLAST, "service", "install", *words], env=env, capture_output=True, text=True, check=False
    )


def test_units_of_a_user(tmp_path: Path, systemctl: Path) -> None:
    said = install(tmp_path, "--user")
    assert said.returncode == 0, said
    folder = tmp_path / "config" / "systemd" / "user"
    assert said.stdout.split("\n")[:2] == [f"{folder}/outlast.service", f"{folder}/outlast-shutdown.service"]
    daemon = (folder / "outlast.service").read_text()
    assert f"\nExecStart={Path(sys.prefix) / 'bin' / 'outlast'} serve\n" in daemon
    assert f"\nEnvironment=OUTLAST_STATE_DIR={tmp_path}/state\n" in daemon
    assert "\nWantedBy=default.target\n" in daemon
    assert "/usr/local/bin" not in daemon
    assert "/var/lib" not in daemon.partition("[Unit]")[2]
    for line in ("KillMode=process", "Delegate=yes", "Restart=on-failure"):
        assert f"\n{line}\n" in daemon
    assert (
        f"ExecStop={Path(sys.prefix) / 'bin' / 'outlast'} shutdown" in (folder / "outlast-shutdown.service").read_text()
    )
    assert systemctl.read_text().split("\n")[:2] == [
        "--user daemon-reload",
        "--user enable --now outlast.service outlast-shutdown.service",
    ]
    assert install(tmp_path, "--user").returncode == 0  # once more


def test_a_unit_of_somebody_else_is_left_alone(tmp_path: Path, systemctl: Path) -> None:
    unit = tmp_path / "config" / "systemd" / "user" / "outlast.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    said = install(tmp_path, "--user")
    assert (said.returncode, "was not made by this command" in said.stderr) == (1, True)
    assert unit.read_text() == "[Unit]\n"
    assert not systemctl.exists()


def test_units_of_the_machine_are_those_of_the_documents(tmp_path: Path) -> None:
    said = install(tmp_path, "--dry-run")
    assert said.returncode == 0
    for line in (
        "StateDirectory=outlast",
        "Environment=OUTLAST_STATE_DIR=/var/lib/outlast",
        "WantedBy=multi-user.target",
    ):
        assert f"\n{line}\n" in said.stdout
    assert not (tmp_path / "config").exists()


def test_a_failure_of_systemd_is_told(tmp_path: Path, systemctl: Path) -> None:
    program = tmp_path / "bin" / "systemctl"
    program.write_text("#!/bin/sh\nexit 3\n")
    said = install(tmp_path, "--user")
    assert (said.returncode, said.stderr) == (1, "Error: `systemctl --user daemon-reload` has failed with 3\n")
    assert install(tmp_path, "--user", "--no-start").returncode == 0
    assert not systemctl.exists()
