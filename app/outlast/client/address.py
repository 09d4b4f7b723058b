"""Address and token of the daemon: as given, by the environment, or as the daemon of this user has them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from outlast.config import load_settings
from outlast.model.errors import ConfigError

UNIX = "unix:"
URL_VARIABLE = "OUTLAST_URL"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - what a daemon listens on, and where it answers

_HERE = {"127.0.0.1", "::1", "localhost"}


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
        url: `http://HOST:PORT`, `https://...` or `unix:PATH`. None: `OUTLAST_URL`, or the setting `listen`.
        token: API token. None: `OUTLAST_TOKEN`, or the file in the state folder.
        environment: environment variables.

    Raises:
        ConfigError: the URL is none, or the settings or the token file cannot be read.
    """
    settings = load_settings(environment, {})
    url = url or environment.get(URL_VARIABLE) or _listening(settings.listen)
    source = "the argument"
    if token is None:
        token, source = settings.token, "OUTLAST_TOKEN"
    socket = url.removeprefix(UNIX) if url.startswith(UNIX) else ""
    host = urlsplit(url).hostname
    if not socket and (not host or not url.startswith(("http://", "https://"))):
        raise ConfigError(
            f"{url!r} cannot be the address of a daemon: name http://HOST:PORT, https://HOST or unix:PATH"
        )
    # The token of this machine's daemon is for no other machine.
    if not token and source == "OUTLAST_TOKEN" and (socket or host in _HERE):
        path = settings.state_path / "token"
        token, source = _read(path), str(path)
    return Address("http://outlast" if socket else url.rstrip("/"), socket, token.strip(), source)


def _listening(listen: str) -> str:
    """Return the URL of a daemon with a value of the setting `listen`."""
    if listen.startswith(UNIX):
        return listen
    host, _, port = listen.rpartition(":")
    return f"http://{_EVERYWHERE.get(host, host)}:{port}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""  # the daemon says that a token is missing, if it wants one
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the token file {path} cannot be read: {exc}") from None
