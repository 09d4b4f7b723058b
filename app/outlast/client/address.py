"""Address and token of the daemon: as given, by the environment, or as the daemon of this user has them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from outlast.config import Settings, load_settings
from outlast.model.errors import ConfigError

UNIX = "unix:"
URL_VARIABLE = "OUTLAST_URL"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - what a daemon listens on, and where it answers

_HERE = {"127.0.0.1", "::1", "localhost"}
_URL = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a daemon, and the token by which it knows its callers.

    Attributes:
        url: scheme, host, port, and the path before that of each call, without a slash at its end.
        socket: path of a unix socket; empty: the URL names a host.
        token: API token; empty: none is sent.
        token_from: where the token was found, for people.
    """

    url: str
    socket: str
    token: str
    token_from: str

    @property
    def where(self) -> str:
        """Address, for people."""
        return f"{UNIX}{self.socket}" if self.socket else self.url


def find_address(url: str | None, token: str | None, environment: Mapping[str, str] = os.environ) -> Address:
    """Return the address of the daemon.

    Args:
        url: `http://HOST:PORT`, `https://...` or `unix:PATH`. None: `OUTLAST_URL`, or what the daemon has told in the
            state folder, or the setting `listen`.
        token: API token. None: `OUTLAST_TOKEN`, or the file in the state folder.
        environment: environment variables.

    Raises:
        ConfigError: the URL is none, no header can carry the token, or the settings or the token file cannot be read.
    """
    settings = load_settings(environment, {})
    url = url or environment.get(URL_VARIABLE) or _told(settings) or _listening(settings.listen[0])
    source = "the argument"
    if token is None:
        token, source = settings.token, "OUTLAST_TOKEN"
    socket = url.removeprefix(UNIX) if url.startswith(UNIX) else ""
    host = "" if socket else _host_of(url)
    # The token of this machine's daemon is for no other machine.
    if not token and source == "OUTLAST_TOKEN" and (socket or host in _HERE):
        path = settings.state_path / "token"
        token, source = _read(path), str(path)  # if there is none, the daemon says that it wants one
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(f"the token in {source} holds a character that no header can carry")
    return Address("http://outlast" if socket else url.rstrip("/"), socket, token, source)


def _host_of(url: str) -> str:
    """Return the host that a URL names.

    Raises:
        ConfigError: it names none.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.port != 0 and parts.scheme in {"http", "https"} and _URL.fullmatch(url)
        host = parts.hostname if is_address else None
    except ValueError:
        host = None
    if not host:
        raise ConfigError(
            f"{url!r} cannot be the address of a daemon: name http://HOST:PORT, https://HOST or unix:PATH"
        )
    return host


def _told(settings: Settings) -> str:
    """Return the first address that the daemon has written into the state folder; empty: there is none."""
    first = _read(settings.state_path / "address").partition("\n")[0]
    return first if first.startswith(UNIX) or not first else _listening(first.removeprefix("http://"))


def _listening(listen: str) -> str:
    """Return the URL of a daemon with a value of the setting `listen`."""
    if listen.startswith(UNIX):
        return listen
    host, _, port = listen.rpartition(":")
    return f"http://{_EVERYWHERE.get(host, host)}:{port}"


def _read(path: Path) -> str:
    """Return the text of a file of the daemon's; empty: there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the {path.name} file {path} cannot be read: {exc}") from None
