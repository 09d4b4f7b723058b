"""Options of a start, and the body that is made of them."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class StartOptions(TypedDict, total=False):
    """Options of `start` and `run`. docs/http-api.md describes the fields of the same meaning.

    Attributes:
        cwd: folder in which the process starts; a relative one counts from the folder of this program. Default: the
            home folder of the process's user.
        env: environment variables to set.
        name: name of the process, which makes it managed. Only for `start`.
        tags: tags to find the process by.
        restart: restart policy, or its name: `never`, `on_failure` or `always`. Only for `start`.
        health_check: health check of a managed process. Only for `start`.
        ready_log: regular expression; a run is healthy once a line of it matches. Only for `start`.
        stdin: `closed` or `pipe`.
        stdout: `capture` or `discard`.
        stderr: `capture` or `discard`.
        user: user, and perhaps group, that the process runs as.
        nice: nice value.
        limits: resource limits.
        stop_signal: signal that asks the process to end.
        stop_grace_ms: milliseconds between that signal and SIGKILL. Only for `start`.
        success_exit_codes: exit codes that count as success, besides 0. Only for `start`.
        keep: `always`, or limits of its own for what is kept of it: `output_s`, `bytes`, `ended_s`.
        tty: `{}`, or `{"rows": ROWS, "cols": COLUMNS}`: the process has a terminal. Only for `start`.
        timeout: seconds after which the process tree is killed.
        key: idempotency key. Without it, one is made for each call.
    """

    cwd: str | os.PathLike[str]
    env: Mapping[str, str]
    name: str
    tags: Mapping[str, str]
    restart: str | Mapping[str, Any]
    health_check: Mapping[str, Any]
    ready_log: str
    stdin: str
    stdout: str
    stderr: str
    user: str | Mapping[str, str | int]
    nice: int
    limits: Mapping[str, float]
    stop_signal: str | int
    stop_grace_ms: int
    success_exit_codes: Sequence[int]
    keep: str | Mapping[str, int]
    tty: Mapping[str, int]
    timeout: float
    key: str


_FIELDS = {"stdin": "stdin_mode", "stdout": "stdout_mode", "stderr": "stderr_mode"}
"""Fields of the API whose option has another name, besides those that need a conversion."""


def put_body(command: str | os.PathLike[str], args: tuple[str, ...], options: StartOptions) -> bytes:
    """Return the body of a change in place, which may be repeated without a key."""
    body: dict[str, Any] = json.loads(start_body(command, args, options))
    del body["idempotency_key"]
    return json.dumps(body).encode()


def start_body(command: str | os.PathLike[str], args: tuple[str, ...], options: StartOptions) -> bytes:
    """Return the body of a start. The key in it lets a repeated request start nothing."""
    given: dict[str, Any] = dict(options)
    body: dict[str, Any] = {"command": os.fspath(command), "args": list(args)}
    body["idempotency_key"] = given.pop("key", None) or os.urandom(18).hex()
    if (folder := given.pop("cwd", None)) is not None:
        body["working_dir"] = os.path.abspath(folder)  # noqa: PTH100 - a Path would resolve no ".."
    restart = given.pop("restart", None)
    if restart is not None:
        body["restart"] = {"policy": restart} if isinstance(restart, str) else restart
    for name, value in given.items():
        if value is not None:
            body[_FIELDS.get(name, name)] = value
    return json.dumps(body).encode()
