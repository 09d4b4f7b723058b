"""`service install`: unit files of systemd, for this installation."""

import os
import subprocess
import sys
from pathlib import Path

import click

from outlast.cli.messages import print_result, say
from outlast.config import load_settings

_UNITS = ("outlast.service", "outlast-shutdown.service")
_MARK = "# Made by `outlast service install`: put changes into `systemctl edit`, and not into this file.\n"
_PROGRAM = "/usr/local/bin/outlast"
_SYSTEM_STATE_DIR = "/var/lib/outlast"
_SYSTEM_FOLDER = "/etc/systemd/system"
_NOT_FOR_USERS = ("StateDirectory=", "StateDirectoryMode=", "LimitNOFILE=", "After=network.target")
"""Lines that a user's own systemd may not carry out, or has no use for."""


@click.group("service", short_help="Run the daemon under systemd.")
def service_command() -> None:
    """Run the daemon under systemd."""


@service_command.command("install", short_help="Install and start the units of systemd.")
@click.option("--user", "for_user", is_flag=True, help="For this user alone, without root.")
@click.option("--no-start", is_flag=True, help="Only write the files.")
@click.option("--dry-run", is_flag=True, help="Only print the files.")
def install_command(*, for_user: bool, no_start: bool, dry_run: bool) -> None:
    """Install the units of systemd for this installation, and start the daemon, now and at every boot.

    A second unit ends the processes in order when the machine shuts down.
    """
    texts = {name: _MARK + _unit(_template(name).read_text(encoding="utf-8"), for_user=for_user) for name in _UNITS}
    if dry_run:
        for name, text in texts.items():
            print_result(f"# {name}\n{text}")
        return
    folder = _user_folder() if for_user else Path(_SYSTEM_FOLDER)
    for name, text in texts.items():
        _write(folder / name, text)
    if no_start:
        return
    systemctl = ["systemctl", *(["--user"] if for_user else [])]
    _run([*systemctl, "daemon-reload"])
    _run([*systemctl, "enable", "--now", *_UNITS])
    if for_user:
        say("it runs while you are logged in; `loginctl enable-linger` lets it run from boot on")


def _template(name: str) -> Path:
    """Return the file of a unit: in an installation, or in a checkout.

    Raises:
        click.ClickException: neither has it.
    """
    places = [Path(sys.prefix) / "share" / "outlast" / name, Path(__file__).parents[3] / "config" / name]
    for path in places:
        if path.is_file():
            return path
    raise click.ClickException(f"{name} is missing: it is neither {places[0]} nor {places[1]}")


def _unit(text: str, *, for_user: bool) -> str:
    """Return a unit for this installation."""
    program = Path(sys.prefix) / "bin" / "outlast"
    command = str(program) if program.is_file() else f"{sys.executable} -m outlast"
    text = text.replace(_PROGRAM, command)
    if not for_user:
        return text
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(_NOT_FOR_USERS)]
    return (
        "".join(lines)
        .replace("WantedBy=multi-user.target", "WantedBy=default.target")
        .replace("/etc/outlast/environment", "%h/.config/outlast/environment")
        .replace(
            f"OUTLAST_STATE_DIR={_SYSTEM_STATE_DIR}", f"OUTLAST_STATE_DIR={load_settings(os.environ, {}).state_path}"
        )
    )


def _user_folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "systemd" / "user"


def _write(path: Path, text: str) -> None:
    """Write a unit, unless somebody else has made the one that is there.

    Raises:
        click.ClickException: it is not written.
    """
    try:
        if path.exists() and not path.read_text(encoding="utf-8").startswith(_MARK) and path.read_text("utf-8") != text:
            raise click.ClickException(f"{path} was not made by this command: move it away first")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        hint = "; --user needs no root" if isinstance(exc, PermissionError) else ""
        raise click.ClickException(f"{path} cannot be written: {exc.strerror}{hint}") from None
    print_result(str(path))


def _run(words: list[str]) -> None:
    """Run a command of systemd.

    Raises:
        click.ClickException: it is missing, or fails.
    """
    try:
        code = subprocess.run(words, check=False).returncode  # noqa: S603 - its words are ours
    except FileNotFoundError:
        raise click.ClickException("systemctl is missing: this machine does not run systemd") from None
    if code:
        raise click.ClickException(f"`{' '.join(words)}` has failed with {code}")
