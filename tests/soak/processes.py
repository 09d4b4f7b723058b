"""The processes of a soak: the request that starts each, what is done to it, and its expected output and end."""

import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LARGE_BYTES = 2_000_000
"""Bytes that the daemon caches of one process, about."""

_TALK = 'i=0; while [ "$i" -lt "$1" ]; do echo "$0 out $i"; echo "$0 err $i" >&2; i=$((i+1)); done; exit "$2"'
_BULK = 'yes "$0" | head -n "$1"'
_BINARY = "printf '\\000\\377\\r\\n%s' \"$0\""
_WAITS = 'echo "$0 ready"; exec sleep 1000'
_FAMILY = 'sleep 1000 & setsid sleep 1000 & echo "$0 ready"; wait'
_ORPHAN = '(sleep 0.2; echo "$0 late") & echo "$0 early"; exit 3'
_DISCARDED = 'echo "$0"; kill -USR1 $$'


@dataclass(frozen=True, kw_only=True)
class ShortProcess:
    """A process that ends soon, and its expected end.

    Attributes:
        body: body of the request that starts the process.
        do: action after its first line: `kill`, `term`, `feed`, or empty.
        fed: bytes for its standard input.
        starts: whether the program exists.
    """

    kind: str
    body: dict[str, Any]
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = 0
    signal: int | None = None
    do: str = ""
    fed: bytes = b""
    starts: bool = True


def _sh(script: str, tag: str, *args: object, **fields: Any) -> dict[str, Any]:
    return {"command": "sh", "args": ["-c", script, tag, *map(str, args)], **fields}


def _talk(rng: random.Random, tag: str) -> ShortProcess:
    lines, code = rng.randint(1, 20), rng.randint(0, 5)
    out, err = ("".join(f"{tag} {name} {i}\n" for i in range(lines)).encode() for name in ("out", "err"))
    return ShortProcess(kind="talk", body=_sh(_TALK, tag, lines, code), stdout=out, stderr=err, exit_code=code)


def _bulk(rng: random.Random, tag: str) -> ShortProcess:
    return _lines(rng, tag, "bulk", LARGE_BYTES // 50)


def _large(rng: random.Random, tag: str) -> ShortProcess:
    return _lines(rng, tag, "large", LARGE_BYTES)


def _lines(rng: random.Random, tag: str, kind: str, most_bytes: int) -> ShortProcess:
    line = _long(tag)
    lines = rng.randint(most_bytes // 2, most_bytes) // (len(line) + 1)
    return ShortProcess(kind=kind, body=_sh(_BULK, line, lines), stdout=f"{line}\n".encode() * lines)


def _long(tag: str) -> str:
    return f"{tag} {'x' * 80}"


def _binary(_rng: random.Random, tag: str) -> ShortProcess:
    return ShortProcess(kind="binary", body=_sh(_BINARY, tag), stdout=b"\x00\xff\r\n" + tag.encode())


def _signalled(rng: random.Random, tag: str) -> ShortProcess:
    do, number = rng.choice([("kill", signal.SIGKILL), ("term", signal.SIGTERM)])
    ready = f"{tag} ready\n".encode()
    return ShortProcess(kind=do, body=_sh(_WAITS, tag), stdout=ready, exit_code=None, signal=number, do=do)


def _family(_rng: random.Random, tag: str) -> ShortProcess:
    ready = f"{tag} ready\n".encode()
    return ShortProcess(
        kind="family", body=_sh(_FAMILY, tag), stdout=ready, exit_code=None, signal=signal.SIGKILL, do="kill"
    )


def _orphan(_rng: random.Random, tag: str) -> ShortProcess:
    return ShortProcess(
        kind="orphan", body=_sh(_ORPHAN, tag), stdout=f"{tag} early\n{tag} late\n".encode(), exit_code=3
    )


def _fed(rng: random.Random, tag: str) -> ShortProcess:
    fed = f"{tag}\n".encode() * rng.choice([1, 100, 10_000])
    return ShortProcess(kind="fed", body={"command": "cat", "stdin_mode": "pipe"}, stdout=fed, do="feed", fed=fed)


def _discarded(_rng: random.Random, tag: str) -> ShortProcess:
    body = _sh(_DISCARDED, tag, stdout_mode="discard")
    return ShortProcess(kind="discarded", body=body, exit_code=None, signal=signal.SIGUSR1)


def _impossible(_rng: random.Random, tag: str) -> ShortProcess:
    return ShortProcess(kind="impossible", body={"command": f"/no/such/program/{tag}"}, starts=False)


_KINDS: dict[Callable[[random.Random, str], ShortProcess], int] = {
    _talk: 30,
    _bulk: 8,
    _large: 4,
    _binary: 6,
    _signalled: 12,
    _family: 4,
    _orphan: 4,
    _fed: 10,
    _discarded: 4,
    _impossible: 4,
}


def choose(rng: random.Random, tag: str, *, calm: bool) -> ShortProcess:
    """Choose a process. All its output contains `tag`. Unless `calm`, none is fed: lost answers hide what arrived."""
    while True:
        (make,) = rng.choices(list(_KINDS), list(_KINDS.values()))
        if calm or make is not _fed:
            return make(rng, tag)


_TRICKLE = """
import itertools, sys, time
for i in itertools.count(1):
    stream = sys.stdout if i % 2 else sys.stderr
    stream.write(f"{i}\\n")
    stream.flush()
    time.sleep(0.2)
"""


@dataclass
class LongProcess:
    """A process that lives as long as the soak.

    Attributes:
        fed: bytes written to its standard input so far.
    """

    body: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)
    fed: bytes = b""


def trickler() -> LongProcess:
    """Return a process that prints numbers, odd ones to stdout and even ones to stderr."""
    return LongProcess({"command": sys.executable, "args": ["-c", _TRICKLE]})


def listener() -> LongProcess:
    """Return a process that prints its standard input."""
    return LongProcess({"command": "cat", "stdin_mode": "pipe"})


def flood(tag: str, size: int) -> dict[str, Any]:
    """Return the request that starts a process which prints `size` bytes as fast as it can."""
    return _sh('yes "$0" | head -c "$1"', _long(tag), size)
