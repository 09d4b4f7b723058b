"""All settings with their defaults. Order of precedence: defaults < file < environment < flags."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from outlast.config.sizes import read_part, read_size
from outlast.model.errors import ConfigError
from outlast.model.tag_label import tag_label

ENVIRONMENT = {
    "OUTLAST_LISTEN": "listen",
    "OUTLAST_STATE_DIR": "state_dir",
    "OUTLAST_TOKEN": "token",
    "OUTLAST_STORAGE": "storage",
    "OUTLAST_LOG_LEVEL": "log_level",
    "OUTLAST_LOG_FORMAT": "log_format",
}
CONFIG_VARIABLE = "OUTLAST_CONFIG"
DATABASE_NAME = "outlast.db"
"""The store in the state folder, unless the setting `storage` names another."""
_MEBIBYTE = 1 << 20
_MAX_MODE = 0o777
_HOST = re.compile(r"[\w.-]+(:\d+)?", re.ASCII)
_CHOICES = {
    "compress": ("auto", "off"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("text", "json"),
}
_TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false"}


MOST_TOTAL_BYTES = 20 << 30
"""Most that a part of the file system means for `keep_total_bytes`."""

_SIZES: Mapping[str, Callable[[str, object], object]] = {
    "keep_process_bytes": read_size,
    "keep_total_bytes": read_part,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. `config/outlast.toml` has the same names and defaults.

    Attributes:
        listen: addresses of the HTTP API: `HOST:PORT`, or `unix:/path/to/socket`. Port 0 is any free port.
        unix_socket_mode: permissions of a unix socket on which the daemon listens.
        unix_socket_group: its group, as a name or a number. Empty: the daemon's.
        allowed_hosts: names (`NAME` or `NAME:PORT`) by which browsers reach the API through a proxy.
        state_dir: state folder: database, token, socket of the shim. Made with mode 0700 if missing. Empty: the
            platform's default.
        storage: URL of the store. Empty: SQLite, `outlast.db` in the state folder.
        token: API token. Empty: made at the first start, and kept in the file `token` in the state folder. Not allowed
            in the configuration file.
        durable: whether a commit survives a power failure (`synchronous=FULL`).
        compress: `auto`: output is compressed, large pieces as they are stored, the rest later. `off`: none is.
        compress_after_s: age in seconds at which output is compressed that was stored in small pieces.
        keep_output_s: age in seconds at which output is deleted; 0: never.
        keep_process_bytes: bytes on the disk beyond which the oldest output of a process is deleted; 0: no limit.
        keep_total_bytes: the same for the output of all processes: bytes, or a part of the file system, such as "20%",
            but then no more than `MOST_TOTAL_BYTES`. 0: no limit.
        keep_events_s: age in seconds at which events are deleted; 0: never.
        keep_ended_s: time in seconds after its end at which a process is purged; 0: never.
        keep_ended: number of ended processes that are kept; beyond it, the oldest end is purged first. 0: no maximum.
        metrics_tags: tags of named processes that become labels of their metrics.
        log_level: the least severe messages that the daemon logs.
        log_format: `text`, or `json`: an object in each line.
        access_log: whether the daemon logs each request, at the level `info`.
        stop_grace_ms: time between the stop signal and SIGKILL in `outlast shutdown`.
        inherit_env: environment variables that processes inherit from the daemon. `OUTLAST_...` is not allowed.
        buffer_limit_bytes: buffer limit of one process while no daemon runs; then the process blocks.
        buffer_memory_bytes: buffers in memory of all processes together; the rest goes to disk.
        buffer_spool_bytes: buffers on disk (folder `spool` in the state folder) of all processes together.
    """

    listen: tuple[str, ...] = ("127.0.0.1:9501",)
    unix_socket_mode: int = 0o600
    unix_socket_group: str = ""
    allowed_hosts: tuple[str, ...] = ()
    state_dir: str = ""
    storage: str = ""
    token: str = ""
    durable: bool = True
    compress: str = "auto"
    compress_after_s: int = 600
    keep_output_s: int = 0
    keep_process_bytes: int = 0
    keep_total_bytes: str = "20%"
    keep_events_s: int = 0
    keep_ended_s: int = 0
    keep_ended: int = 100_000
    metrics_tags: tuple[str, ...] = ()
    log_level: str = "info"
    log_format: str = "text"
    access_log: bool = False
    stop_grace_ms: int = 10_000
    inherit_env: tuple[str, ...] = ()
    buffer_limit_bytes: int = 64 * _MEBIBYTE
    buffer_memory_bytes: int = 128 * _MEBIBYTE
    buffer_spool_bytes: int = 1024 * _MEBIBYTE

    @property
    def state_path(self) -> Path:
        """Absolute path of the state folder.

        Raises:
            ConfigError: it cannot be told: the user has no home folder, or the working directory was removed.
        """
        try:
            return Path(self.state_dir or default_state_dir()).expanduser().absolute()
        except RuntimeError:
            raise ConfigError(
                f"no home folder is known for this user (uid {os.geteuid()}), so the state folder cannot be found: "
                "name it with --state-dir or OUTLAST_STATE_DIR"
            ) from None
        except FileNotFoundError:
            raise ConfigError("the working directory was removed: name an absolute path with --state-dir") from None

    @property
    def storage_url(self) -> str:
        """URL of the store."""
        return self.storage or f"sqlite:///{quote(os.fsencode(self.state_path / DATABASE_NAME))}"


def default_state_dir() -> str:
    """Return `/var/lib/outlast` for root, and the state folder of XDG for any other user."""
    if os.geteuid() == 0:
        return "/var/lib/outlast"
    import platformdirs  # noqa: PLC0415 - not needed if the state folder is named

    return platformdirs.user_state_dir("outlast")


def load_settings(environment: Mapping[str, str], flags: Mapping[str, Any], config_file: str | None = None) -> Settings:
    """Return the settings from all sources.

    Args:
        environment: environment variables, as in `os.environ`.
        flags: values by setting name; None is a flag that was not given.
        config_file: path of a TOML file; None: the file that `OUTLAST_CONFIG` names, if it is set.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or has a wrong value.
    """
    values: dict[str, Any] = {}
    path = config_file or environment.get(CONFIG_VARIABLE)
    if path:
        values |= _read_file(Path(path))
    for key, name in ENVIRONMENT.items():
        if environment.get(key):
            values[name] = environment[key]
            _check_choice(name, environment[key], key)
    if isinstance(listen := values.get("listen"), str):
        values["listen"] = tuple(listen.split(","))
    values |= {name: value for name, value in flags.items() if value is not None}
    return Settings(**values)


def _read_file(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - not needed without a file

    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"the configuration file {path} cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {exc}") from None
    return {name: _read_value(name, value, path) for name, value in values.items()}


def _read_value(name: str, value: Any, path: Path) -> Any:
    """Return the value of a setting as `Settings` has it."""
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Settings) if field.name != "token"}
    if name == "token":
        raise ConfigError(f"{path}: token is not allowed in this file: set OUTLAST_TOKEN, or use the token file")
    if name not in kinds:
        raise ConfigError(f"{path}: unknown setting: {name} (settings: {', '.join(sorted(kinds))})")
    if name == "listen":
        return _read_listen(value, path)
    if kinds[name] is tuple:
        return _READ_LIST[name](value, path)
    kind = type(value)
    if name in _SIZES:
        try:
            return _SIZES[name](name, value)
        except ConfigError as exc:
            raise ConfigError(f"{path}: {exc}") from None
    if name == "unix_socket_mode" and (kind is not int or not 0 <= value <= _MAX_MODE):
        raise ConfigError(
            f"{path}: unix_socket_mode must be an octal number of three digits, such as 0o660, not {value!r}"
        )
    _check_choice(name, value, f"{path}: {name}")
    if kinds[name] is not kind:
        raise ConfigError(f"{path}: {name} must be {_TYPE_NAMES[kinds[name]]}, not {value!r}")
    if isinstance(value, int) and value < 0:
        raise ConfigError(f"{path}: {name} must not be negative")
    return value


def _read_listen(value: Any, path: Path) -> tuple[str, ...]:
    addresses = value if isinstance(value, list) else [value]
    if not addresses or not all(isinstance(address, str) and address for address in addresses):
        raise ConfigError(
            f'{path}: listen must be an address, such as "127.0.0.1:9501", or an array of addresses, not {value!r}'
        )
    return tuple(addresses)


def _check_choice(name: str, value: Any, what: str) -> None:
    """Check a setting that has one of a few values. `what`: how the message calls it."""
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices[:-1])
        raise ConfigError(f'{what} must be {known} or "{choices[-1]}", not {value!r}')


def _read_names(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name and "=" not in name for name in value):
        raise ConfigError(
            f'{path}: inherit_env must be an array of names of environment variables, such as ["HTTP_PROXY"]'
        )
    for name in value:
        if name.startswith("OUTLAST_"):
            raise ConfigError(f"{path}: inherit_env must not contain {name}: OUTLAST_... is for the daemon only")
    return tuple(value)


def _read_hosts(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(host, str) and _HOST.fullmatch(host) for host in value):
        raise ConfigError(
            f'{path}: allowed_hosts must be an array of host names, such as ["outlast.example.com"], without https://'
        )
    return tuple(value)


def _read_tags(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise ConfigError(f'{path}: metrics_tags must be an array of names of tags, such as ["team"]')
    tags: dict[str, str] = {}
    for tag in value:
        if tags.setdefault(tag_label(tag), tag) != tag or value.count(tag) > 1:
            raise ConfigError(f"{path}: metrics_tags must not contain two tags for one label: {tag_label(tag)}")
    return tuple(value)


_READ_LIST = {"inherit_env": _read_names, "allowed_hosts": _read_hosts, "metrics_tags": _read_tags}
