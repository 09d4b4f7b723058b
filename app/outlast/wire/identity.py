"""The identity of a state folder: what daemon and shim started, and what is in the store, is theirs if it has it.

It is made once, and kept in a file beside the database, which a backup of the database does not contain.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

IDENTITY_NAME = "identity"
"""The file, in the state folder, that holds its identity."""

_MARK_FLAG = 1 << 62
"""Bit that every mark has, so that no limit that an operator sets looks like one. All marks are positive in 64 bits."""
_PRIME = (1 << 62) - 57


class Identity(NamedTuple):
    """The identity of one state folder.

    Attributes:
        id: a random text. A folder keeps it when it is renamed, and when a backup is restored into it.
        folder: device and inode numbers of the folder. No two folders of a machine have the same.
    """

    id: str
    folder: str

    @property
    def secret(self) -> str:
        """The text that `make_mark` needs. A copy of the folder has another one, whatever its file says."""
        return f"{self.id} {self.folder}"


def load_identity(state_dir: Path) -> Identity:
    """Return the identity of a state folder, and make it if there is none, or if the file is that of another folder.

    The file is another folder's if both the path and the numbers that it names are others. So a folder that is renamed
    keeps its identity, and so does one whose disk gets another device number at the next boot.

    Raises:
        OSError: the folder cannot be read or written.
    """
    path = state_dir / IDENTITY_NAME
    status = state_dir.stat()
    own_path, folder = str(state_dir.resolve()), f"{status.st_dev:x}-{status.st_ino:x}"
    stored = _read(path)
    if stored is None or (stored["path"] != own_path and stored["folder"] != folder):
        stored = {"id": os.urandom(16).hex(), "path": "", "folder": ""}
    wanted = {"id": stored["id"], "path": own_path, "folder": folder}
    if stored != wanted:
        _write(path, wanted)
    return Identity(wanted["id"], folder)


def make_mark(secret: str, run_key: str) -> int:
    """Return the number by which the processes of a run are recognized."""
    # Ids are random, so that is a good hash. `hashlib` takes much memory.
    return _MARK_FLAG | int.from_bytes(f"{secret} {run_key}".encode(), "big") % _PRIME


def is_mark(number: int) -> bool:
    """Tell whether a number may be the mark of any run of any state folder."""
    return _MARK_FLAG <= number < _MARK_FLAG << 1


def _read(path: Path) -> dict[str, str] | None:
    """Return what the file says. None: there is none, or it says nothing that makes sense."""
    try:
        stored = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), str) for key in ("id", "path", "folder")):
        return None
    return stored


def _write(path: Path, stored: dict[str, str]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(stored).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        fresh.rename(path)  # so that a crash leaves no part of it
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
