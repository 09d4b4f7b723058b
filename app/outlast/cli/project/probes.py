"""Probes of process-compose as health checks."""

from typing import Any

from outlast.cli.project.declared import DeclaredProject
from outlast.cli.project.yaml_values import Value

_HERE = {"", "localhost", "127.0.0.1", "0.0.0.0", "::1"}  # noqa: S104 - where a file says that it asks
_MOST_PORT = 65_535
_KEYS = {"initial_delay_seconds", "period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"}
_TIMES = {
    "initial_delay_seconds": ("initial_delay_ms", 0),
    "period_seconds": ("interval_ms", 10),
    "timeout_seconds": ("timeout_ms", 1),
}


def health_check(value: Value, project: DeclaredProject) -> dict[str, Any]:
    """Return the health check that a probe stands for.

    Raises:
        Failure: it is wrong, or asks what no health check can.
    """
    keys = value.mapping(_KEYS | {"exec", "http_get"})
    if ("exec" in keys) == ("http_get" in keys):
        raise value.fail("must have either exec or http_get")
    found = _command(keys["exec"]) if "exec" in keys else _http(keys["http_get"], project)
    for name, (field, seconds) in _TIMES.items():
        found[field] = 1000 * (keys[name].number() if name in keys else seconds)
    for field in ("interval_ms", "timeout_ms"):
        found[field] = max(1000, found[field])
    found["failure_threshold"] = max(1, keys["failure_threshold"].number()) if "failure_threshold" in keys else 3
    return found


def _command(value: Value) -> dict[str, Any]:
    keys = value.mapping({"command", "working_dir"})
    if "command" not in keys:
        raise value.fail("has no command")
    script, args = keys["command"].text(), []
    if "working_dir" in keys:
        script, args = f'cd "$1" || exit; {script}', ["sh", keys["working_dir"].text()]
    return {"type": "exec", "command": "sh", "args": ["-c", script, *args]}


def _http(value: Value, project: DeclaredProject) -> dict[str, Any]:
    keys = value.mapping({"host", "scheme", "path", "port", "num_port", "headers", "status_code"})
    if "host" in keys and not keys["host"].is_null and keys["host"].text() not in _HERE:
        raise keys["host"].fail("must be this machine: localhost or 127.0.0.1")
    if "scheme" in keys and keys["scheme"].text().lower() not in {"", "http"}:
        raise keys["scheme"].fail("must be http")
    port = keys.get("port", keys.get("num_port"))
    if port is None:
        raise value.fail("has no port")
    if not 1 <= port.number() <= _MOST_PORT:
        raise port.fail(f"must be from 1 to {_MOST_PORT}")
    if "headers" in keys or "status_code" in keys:
        project.note("headers and status_code of http_get are passed over: a status from 200 to 399 is healthy")
    path = keys["path"].text() if "path" in keys and not keys["path"].is_null else ""
    return {"type": "http", "port": port.number(), "path": f"/{path.lstrip('/')}"}
