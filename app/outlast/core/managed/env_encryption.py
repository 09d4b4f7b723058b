"""The environment of a managed process, stored encrypted for its later runs."""

import hmac
import json
import threading
from collections.abc import Mapping
from pathlib import Path

from outlast.linux.whole_file import replace_file
from outlast.model.errors import EnvKeyLost
from outlast.model.shortage import shortages_told

KEY_NAME = "env.key"


class EnvEncryption:
    """Encryption with a key in the state folder, created at first use. The methods block: call them in a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / KEY_NAME
        self._key_lock = threading.Lock()

    def encrypt(self, environment: Mapping[str, str]) -> str:
        """Return the environment as text that only the key decrypts.

        Raises:
            OutOfResources: the key cannot be read now.
        """
        from cryptography.fernet import Fernet  # noqa: PLC0415 - it would slow down the start of the daemon

        with self._key_lock, shortages_told(f"read {KEY_NAME}"):
            key = self._load_or_create_key()
        return Fernet(key).encrypt(json.dumps(dict(environment)).encode()).decode()

    def digest(self, data: bytes) -> str:
        """Return a digest that tells whether data have changed, and nothing of them to those who lack the key.

        Raises:
            OutOfResources: the key cannot be read now.
        """
        with self._key_lock, shortages_told(f"read {KEY_NAME}"):
            return hmac.digest(self._load_or_create_key(), data, "sha256").hex()

    def decrypt(self, encrypted: str | None) -> dict[str, str]:
        """Return an environment that was encrypted; None is an empty one.

        Raises:
            EnvKeyLost: the key is gone, or is not the one that the environment was encrypted with.
            OutOfResources: the key cannot be read now.
        """
        if encrypted is None:
            return {}
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415 - likewise

        try:
            with shortages_told(f"read {KEY_NAME}"):
                key = self._path.read_bytes()
            environment: dict[str, str] = json.loads(Fernet(key).decrypt(encrypted.encode()))
        except (OSError, ValueError, InvalidToken):
            raise EnvKeyLost(
                f"cannot decrypt the environment of the process: {KEY_NAME} in the state folder is missing, or is not "
                "the key it was encrypted with; restore the key, or start a new process"
            ) from None
        return environment

    def _load_or_create_key(self) -> bytes:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - likewise

        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            pass
        replace_file(self._path, Fernet.generate_key())
        return self._path.read_bytes()
