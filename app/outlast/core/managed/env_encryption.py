"""A managed process's environment, kept for its later runs so that whoever reads the store can't read it."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from outlast.model.errors import EnvKeyLost

KEY_NAME = "env.key"


class EnvEncryption:
    """Seals with a key in the state folder, made when it is first needed. Its methods block: call them in a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / KEY_NAME
        self._making = threading.Lock()

    def close(self, environment: Mapping[str, str]) -> str:
        """Return the environment in a form that only the key opens."""
        from cryptography.fernet import Fernet  # noqa: PLC0415 - the daemon's start is not to wait for it

        with self._making:
            key = self._key()
        return Fernet(key).encrypt(json.dumps(dict(environment)).encode()).decode()

    def open(self, sealed: str | None) -> dict[str, str]:
        """Return what was sealed; None is an empty environment.

        Raises:
            EnvKeyLost: the key is gone, or another.
        """
        if sealed is None:
            return {}
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415 - likewise

        try:
            environment: dict[str, str] = json.loads(Fernet(self._path.read_bytes()).decrypt(sealed.encode()))
        except (OSError, ValueError, InvalidToken):
            raise EnvKeyLost(
                f"its environment can't be opened: {KEY_NAME} in the state folder is gone, or not the key it was "
                "sealed with; put it back, or start the process anew"
            ) from None
        return environment

    def _key(self) -> bytes:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - likewise

        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            pass
        # Whole or not at all: a key that is cut off by a crash would open nothing.
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, Fernet.generate_key())
            os.fsync(fd)
        finally:
            os.close(fd)
        fresh.rename(self._path)
        return self._path.read_bytes()
