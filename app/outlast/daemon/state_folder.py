"""The state folder: its permissions, its lock and its token."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from outlast.linux import lock
from outlast.model.errors import AlreadyServed, ConfigError
from outlast.wire.contract import DAEMON_LOCK_NAME

TOKEN_NAME = "token"  # noqa: S105 - the name of a file


def prepare(state_dir: Path) -> None:
    """Create the state folder, accessible to this user only.

    Raises:
        ConfigError: the folder cannot be created, or other users could write to it.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state_dir.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ConfigError(
                f"the state folder {state_dir} belongs to another user, or others may write to it and could pose as "
                "the shim: choose a folder of your own with --state-dir"
            )
        state_dir.chmod(0o700)
    except OSError as exc:
        raise ConfigError(
            f"the state folder {state_dir} cannot be used: {exc.strerror}; choose another with --state-dir"
        ) from None


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock: one daemon per folder. The kernel releases it when this process ends.

    Raises:
        AlreadyServed: another process holds the lock.
    """
    fd = lock.acquire(state_dir / DAEMON_LOCK_NAME)
    if fd is None:
        pid = lock.holder(state_dir / DAEMON_LOCK_NAME)
        raise AlreadyServed(f"another daemon (pid {pid}) serves {state_dir}: end it, or choose another --state-dir")
    try:
        yield
    finally:
        os.close(fd)


def lock_holder(state_dir: Path) -> int | None:
    """Return the pid of the daemon that serves `state_dir`, or None if none does."""
    return lock.holder(state_dir / DAEMON_LOCK_NAME)


def load_token(state_dir: Path, given: str) -> str:
    """Return the token: `given`, or the one in the state folder, which is created at the first start.

    Raises:
        ConfigError: the token file is empty or not readable.
    """
    if given:
        return given
    path = state_dir / TOKEN_NAME
    if not path.exists():
        _create_token(path)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the token file {path} cannot be read: {exc}") from None
    if not token:
        raise ConfigError(
            f"the token file {path} is empty: write a token into it, or remove it, so that a new one is created"
        )
    return token


def _create_token(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_urlsafe(32).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)  # so that a crash leaves no part of a token
