"""Every setting with its default, and the order of precedence: defaults < file < environment < flags."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from outlast.model.errors import ConfigError

ENVIRONMENT = {
    "OUTLAST_LISTEN": "listen",
    "OUTLAST_STATE_DIR": "state_dir",
    "OUTLAST_TOKEN": "token",
    "OUTLAST_STORAGE": "storage",
}
CONFIG_VARIABLE = "OUTLAST_CONFIG"
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. `config/outlast.toml` names the same with the same defaults.

    Attributes:
        listen: `HOST:PORT`, or `unix:/path/to/socket`. Port 0 takes a free one.
        state_dir: folder of the database, the token and the shim's socket; made 0700 if missing. Empty: the platform's.
        storage: URL of the store. Empty: SQLite, `outlast.db` in the state folder.
        token: what callers must show. Empty: made once and kept in the state folder's `token`. Never in the file.
        durable: a commit survives a loss of power (`synchronous=FULL`), not just the daemon's death.
        compress_after_s: output that is so old is compressed where it lies. 0: none is.
        stop_grace_ms: how long `outlast down` waits between SIGTERM and SIGKILL.
        inherit_env: names of environment variables of the daemon's that processes get too. None of `OUTLAST_...`.
        shim_room_bytes: what the shim keeps of one process's output while the daemon is away; then the process blocks.
        shim_memory_bytes: what the shim keeps in memory of all processes together; the rest goes to disk.
        shim_spool_bytes: what it keeps on disk, in the state folder's `spool`, of all processes together.
    """

    listen: str = "127.0.0.1:9501"
    state_dir: str = ""
    storage: str = ""
    token: str = ""
    durable: bool = True
    compress_after_s: int = 0
    stop_grace_ms: int = 10_000
    inherit_env: tuple[str, ...] = ()
    shim_room_bytes: int = 64 * _MEBIBYTE
    shim_memory_bytes: int = 128 * _MEBIBYTE
    shim_spool_bytes: int = 1024 * _MEBIBYTE

    @property
    def state_path(self) -> Path:
        """The state folder, absolute."""
        return Path(self.state_dir or default_state_dir()).expanduser().absolute()

    @property
    def storage_url(self) -> str:
        """The store's URL."""
        return self.storage or f"sqlite:///{self.state_path / 'outlast.db'}"


def default_state_dir() -> str:
    """Return `/var/lib/outlast` for root, else the user's own state folder (XDG)."""
    if os.geteuid() == 0:
        return "/var/lib/outlast"
    import platformdirs  # noqa: PLC0415 - a start that names its folder does without

    return platformdirs.user_state_dir("outlast")


def load_settings(environment: Mapping[str, str], flags: Mapping[str, Any], config_file: str | None = None) -> Settings:
    """Put the settings together.

    Args:
        environment: as in `os.environ`.
        flags: by setting name; None stands for a flag that was not given.
        config_file: path of a TOML file; without it `OUTLAST_CONFIG`, without that no file.

    Raises:
        ConfigError: the file can't be read, or a setting is unknown or of the wrong kind.
    """
    values: dict[str, Any] = {}
    path = config_file or environment.get(CONFIG_VARIABLE)
    if path:
        values |= _read_file(Path(path))
    values |= {name: environment[key] for key, name in ENVIRONMENT.items() if environment.get(key)}
    values |= {name: value for name, value in flags.items() if value is not None}
    return Settings(**values)


def _read_file(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - a start without a file does without

    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"the configuration file {path} can't be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the configuration file {path} is not TOML: {exc}") from None
    kinds = {field.name: type(field.default) for field in fields(Settings) if field.name != "token"}
    for name, value in values.items():
        if name == "token":
            raise ConfigError(f"{path}: a token does not belong into this file: use OUTLAST_TOKEN or the token file")
        if name not in kinds:
            raise ConfigError(f"{path}: there is no setting {name!r}; there are {', '.join(sorted(kinds))}")
        if name == "inherit_env":
            values[name] = _read_names(value, path)
        elif type(value) is not kinds[name]:
            raise ConfigError(f"{path}: {name} must be of type {kinds[name].__name__}, not {value!r}")
        if isinstance(value, int) and value < 0:
            raise ConfigError(f"{path}: {name} must not be negative")
    return values


def _read_names(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name and "=" not in name for name in value):
        raise ConfigError(
            f'{path}: inherit_env must be a list of names of environment variables, such as ["HTTP_PROXY"]'
        )
    for name in value:
        if name.startswith("OUTLAST_"):
            raise ConfigError(
                f"{path}: inherit_env must not name {name}: what is the daemon's own is not for processes"
            )
    return tuple(value)
