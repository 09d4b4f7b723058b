"""Options of a start, as words of a command line."""

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from outlast.cli.moments import duration
from outlast.cli.processes import read_tags

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://|(http|tcp):")
_HERE = {None, "localhost", "127.0.0.1", "::1"}


def read_size(word: str) -> int:
    """Return a number of bytes, such as 512M.

    Raises:
        click.BadParameter: it is none.
    """
    plain = word.upper().removesuffix("IB").removesuffix("B")
    number = plain.rstrip("KMG")
    if not number.isdecimal() or plain[len(number) :] not in _SIZES:
        raise click.BadParameter(f"{word!r} is not a size: give bytes, or 64K, 512M, 2G")
    return int(number) * _SIZES[plain[len(number) :]]


def _keep(word: str) -> str | dict[str, int]:
    """Return what is kept of the output: `always`, or a size.

    Raises:
        click.BadParameter: it is none of them.
    """
    return word if word == "always" else {"bytes": read_size(word)}


_OPTIONS = [
    click.option("--name", metavar="NAME", help="Name of the process; it is then managed."),
    click.option("--restart", metavar="WHEN", help="never, on-failure[:N] or always."),
    click.option(
        "--health", metavar="URL|CMD", help="Health check: http://:PORT/PATH, tcp://:PORT, or a shell command."
    ),
    click.option("--tag", "tags", metavar="K=V", multiple=True, help="Tag; may be repeated."),
    click.option(
        "-e", "--env", metavar="K[=V]", multiple=True, help="Environment variable; without =V, as it is here."
    ),
    click.option("--env-file", "env_files", metavar="FILE", multiple=True, help="Variables, one K=V a line; -e wins."),
    click.option("-w", "--workdir", metavar="DIR", help="Folder in which it starts. [this one]"),
    click.option("-u", "--user", metavar="USER", help="User, or USER:GROUP."),
    click.option("--timeout", type=duration, metavar="TIME", help="Kill it after so long."),
    click.option("--memory", type=read_size, metavar="SIZE", help="Memory limit, such as 512M."),
    click.option("--cpus", type=float, help="CPU limit, such as 1.5."),
    click.option("--nice", type=int, help="Nice value."),
    click.option("--keep", type=_keep, metavar="SIZE|always", help="Keep so much output of it, or all."),
    click.option("--key", metavar="KEY", help="Idempotency key: a second run with it starts nothing."),
]


def start_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a start, from which `read_start` makes those of the client."""
    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


def read_start(
    *,
    name: str | None,
    restart: str | None,
    health: str | None,
    tags: tuple[str, ...],
    env: tuple[str, ...],
    env_files: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    timeout: float | None,
    memory: int | None,
    cpus: float | None,
    nice: int | None,
    keep: str | dict[str, int] | None,
    key: str | None,
    **_: object,
) -> dict[str, Any]:
    """Return the options of the client's `start` and `run`.

    Raises:
        click.UsageError: a word is none that its option takes.
    """
    limits = {"memory_bytes": memory, "cpus": cpus}
    options = {
        "name": name,
        "restart": _restart(restart) if restart else None,
        "health_check": _health(health) if health else None,
        "tags": read_tags(tags) or None,
        "env": _environment(env, env_files) or None,
        "cwd": workdir or os.getcwd(),  # noqa: PTH109 - a word, as it is sent
        "user": user,
        "timeout": timeout,
        "limits": {limit: value for limit, value in limits.items() if value is not None} or None,
        "nice": nice,
        "keep": keep,
        "key": key,
    }
    return {option: value for option, value in options.items() if value is not None}


def _restart(word: str) -> dict[str, Any]:
    policy, colon, most = word.partition(":")
    if policy not in {"never", "on-failure", "always"} or (colon and not most.isdecimal()):
        raise click.UsageError(f"--restart is never, on-failure, on-failure:N or always, not {word!r}")
    return {"policy": policy.replace("-", "_"), **({"max_restarts": int(most)} if colon else {})}


def _health(url: str) -> dict[str, Any]:
    """Return a health check: by a shell command, or of a port of the daemon's machine, the only one that is checked."""
    if _SCHEME.match(url) is None:
        return {"type": "exec", "command": "/bin/sh", "args": ["-c", url]}
    try:
        parts = urlsplit(url)
        kind, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        kind, host, port = "", None, None
    if kind not in {"http", "tcp"} or host not in _HERE or not port or (kind == "tcp" and parts.path not in {"", "/"}):
        raise click.UsageError(
            f"--health is http://:PORT, http://:PORT/PATH, tcp://:PORT or a shell command, not {url!r}"
        )
    if kind == "tcp":
        return {"type": "tcp", "port": port}
    return {"type": "http", "port": port, "path": urlunsplit(("", "", parts.path or "/", parts.query, ""))}


def _environment(words: tuple[str, ...], files: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for file in files:
        for number, name, value in _variables(file):
            if value is not None:
                found[name] = value
            elif name in os.environ:
                found[name] = os.environ[name]
            else:
                raise click.UsageError(f"{file}, line {number}: {name} is not set here: write {name}=VALUE")
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name not in os.environ:
            raise click.UsageError(f"{name} is not set here: give -e {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _variables(file: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield number of line, name and value of each variable in a file; None: the line has no `=`."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise click.UsageError(f"the file {file} cannot be read: {reason}") from None
    for number, line in enumerate(text.split("\n"), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        name, equals, value = word.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not name or not name.isprintable() or " " in name:
            raise click.UsageError(f"{file}, line {number}: {line!r} is not KEY=VALUE")
        if value[:1] in {"'", '"'} and value[-1:] == value[:1] and len(value) > 1:
            value = value[1:-1]
        yield number, name, value if equals else None
