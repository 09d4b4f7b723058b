"""The API token: given, or made at the first start and kept in the state folder."""

import secrets
from pathlib import Path

from outlast.daemon.state_folder import TOKEN_NAME
from outlast.linux.whole_file import replace_file
from outlast.model.errors import ConfigError

MIN_CHARACTERS = 16
"""Minimum length of a token with which the daemon may be reached from the network."""


def load_token(state_dir: Path, given: str) -> str:
    """Return the token: `given`, or the one in the state folder, which is created at the first start.

    Blanks and line ends around a token do not belong to it.

    Raises:
        ConfigError: the token is empty or cannot be sent in a header, or its file cannot be read or made.
    """
    if given:
        return check_given(given)
    path = state_dir / TOKEN_NAME
    try:
        if not path.exists():
            replace_file(path, secrets.token_urlsafe(32).encode() + b"\n")
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the token file {path} cannot be read or made: {exc}") from None
    return _check(token, f"the token file {path}")


def check_given(token: str) -> str:
    """Return a token that the operator has set, without blanks around it.

    Raises:
        ConfigError: the token is blank or cannot be sent in a header.
    """
    return _check(token.strip(), "OUTLAST_TOKEN")


def check_length(token: str, host: str) -> None:
    """Check that a token is long enough for an address that the network can reach.

    Raises:
        ConfigError: it is missing or too short.
    """
    if not token.strip():
        raise ConfigError(
            f"listening on {host} makes the daemon reachable from the network: first set OUTLAST_TOKEN to a secret"
        )
    if len(token.strip()) < MIN_CHARACTERS:
        raise ConfigError(
            f"listening on {host} makes the daemon reachable from the network, where a token of fewer than "
            f"{MIN_CHARACTERS} characters can be guessed: set OUTLAST_TOKEN to a longer one"
        )


def _check(token: str, source: str) -> str:
    if not token:
        raise ConfigError(f"{source} is empty: put a token there, or remove it, so that a new one is created")
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(f"{source} holds a character that no header can carry: use letters, digits and punctuation")
    return token
