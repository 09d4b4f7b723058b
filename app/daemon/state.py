"""The state folder: its lock, its token."""

import contextlib
import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

from app.model.errors import AlreadyServed, ConfigError

LOCK_NAME = "lock"
TOKEN_NAME = "token"  # noqa: S105 - a file's name
_FLOCK = struct.Struct("hhqqi4x")


def prepare(state_dir: Path) -> None:
    """Make the state folder, for this user only.

    Raises:
        ConfigError: it can't be made or used.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if state_dir.stat().st_uid == os.geteuid():
            state_dir.chmod(0o700)
    except OSError as exc:
        raise ConfigError(
            f"the state folder {state_dir} can't be used: {exc.strerror}; choose another with --state-dir"
        ) from None


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock: one daemon a folder. The system lets go of it when this process ends.

    Raises:
        AlreadyServed: another process holds it.
    """
    fd = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = lock_holder(state_dir)
            raise AlreadyServed(
                f"another daemon (pid {holder}) serves {state_dir}: end it, or choose another --state-dir"
            ) from None
        yield
    finally:
        os.close(fd)


def lock_holder(state_dir: Path) -> int | None:
    """Return the pid of the daemon that serves `state_dir`, as the system knows it; None: nobody does."""
    try:
        fd = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _len, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else int(pid)


def load_token(state_dir: Path, given: str) -> str:
    """Return the token: the one given, or the state folder's, which is made at the first start.

    Raises:
        ConfigError: the token file is empty or not readable.
    """
    if given:
        return given
    path = state_dir / TOKEN_NAME
    if not path.exists():
        _make_token(path)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the token file {path} can't be read: {exc}") from None
    if not token:
        raise ConfigError(f"the token file {path} is empty: write a token into it, or remove it to have one made")
    return token


def _make_token(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_urlsafe(32).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)  # whole, or not there
