"""A file of process-compose, with our own keys added."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from outlast.cli.moments import read_duration
from outlast.cli.project.declared import DeclaredProcess, DeclaredProject
from outlast.cli.project.probes import health_check
from outlast.cli.project.text_files import near
from outlast.cli.project.variables import expand, read_variables
from outlast.cli.project.yaml_values import Value, merge, read_yaml

_NEEDS = {
    "process_started": "started",
    "process_healthy": "healthy",
    "process_log_ready": "log_ready",
    "process_completed": "completed",
    "process_completed_successfully": "completed_successfully",
}
_RESTARTS = {
    "no": "never",
    "never": "never",
    "false": "never",
    "exit_on_failure": "never",
    "on_failure": "on_failure",
    "always": "always",
}
_OF_LOGS = {"log_location", "log_configuration", "log_level", "log_length", "log_format", "disable_ansi_colors"}
_PASSED_OVER = _OF_LOGS | {"version", "is_tui_disabled", "is_strict", "ordered_shutdown", "is_foreground"}
_PASSED_OVER |= {"is_interactive", "is_tty"}
_NOT_YET = {"schedule", "watch", "extends", "vars", "env_cmds", "is_daemon", "is_elevated", "mcp", "mcp_server"}
_NOT_YET |= {"launch_timeout_seconds", "original_config"}
_PROJECT = {"name", "processes", "environment", "env_file", "shell", "disable_env_expansion"} | _PASSED_OVER | _NOT_YET
_OURS = {"user", "limits", "nice", "tags", "keep", "stdin", "timeout"}
_PROCESS = {
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "working_dir",
    "availability",
    "shutdown",
    "readiness_probe",
    "liveness_probe",
    "depends_on",
    "ready_log_line",
    "namespace",
    "description",
    "disabled",
    "replicas",
    "success_exit_codes",
    "is_dotenv_disabled",
}
_PROCESS |= _OURS | _PASSED_OVER | _NOT_YET
_MOST_REPLICAS = 100
_DEFAULT_BACKOFF_S = 1


def read_process_compose(paths: list[Path], variables: Mapping[str, str]) -> DeclaredProject:
    """Return the project of a file, and of those that are laid over it.

    Args:
        paths: the file, and the others in order.
        variables: those that texts may name; every process gets those of `.env`.

    Raises:
        Failure: something is wrong; file and line are named.
    """
    node = read_yaml(paths[0]).node
    for path in paths[1:]:
        node = merge(node, read_yaml(path).node)
    return _Reader(paths[0].parent, Value(node, ""), variables).read()


class _Reader:
    """The reading of one project."""

    def __init__(self, folder: Path, top: Value, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._own = variables
        known = {**os.environ, **variables}
        keys = top.mapping(_PROJECT)
        if "disable_env_expansion" not in keys or not keys["disable_env_expansion"].flag():
            keys = top.with_expansion(partial(expand, known=known)).mapping(_PROJECT)
        self._keys = keys
        self._known = known
        self._project = DeclaredProject(keys["name"].text() if "name" in keys else "", folder)
        self._replicas: dict[str, list[str]] = {}

    def read(self) -> DeclaredProject:
        """Return the project.

        Raises:
            Failure: something is wrong.
        """
        keys, project = self._keys, self._project
        self._check_keys(keys)
        if "processes" not in keys:
            raise Value(next(iter(keys.values())).node, "").fail("`processes` is missing")
        declared = {name: value.mapping(_PROCESS) for name, value in keys["processes"].mapping().items()}
        if not declared:
            raise keys["processes"].fail("declares no process")
        for name, process in declared.items():
            count = process["replicas"].number(1) if "replicas" in process else 1
            if count > _MOST_REPLICAS:
                raise process["replicas"].fail(f"must be at most {_MOST_REPLICAS}")
            self._replicas[name] = [f"{name}-{n}" for n in range(count)] if "replicas" in process else [name]
        everywhere = self._environment(keys)
        for name, process in declared.items():
            place = keys["processes"].mapping()[name].place
            for number, called in enumerate(self._replicas[name]):
                if called in project.processes:
                    raise keys["processes"].mapping()[name].fail(f"would be called {called!r}, as another is")
                one = DeclaredProcess(self._start(name, process, everywhere, number), *place)
                self._add_needs(one, name, process)
                one.disabled = "disabled" in process and process["disabled"].flag()
                one.ends_all = self._ends_all(process)
                project.processes[called] = one
        return project

    def _check_keys(self, keys: Mapping[str, Value]) -> None:
        for name, value in keys.items():
            if name in _NOT_YET:
                raise value.fail("is not supported yet")
            if name in _OF_LOGS:
                self._project.note("keys about logs are passed over: Outlast keeps all output")
            elif name in {"is_tty", "is_interactive"}:
                self._project.note("is_tty and is_interactive are passed over: there are no terminals yet")

    def _environment(self, keys: Mapping[str, Value]) -> dict[str, str]:
        """Return the variables of `env_file` and `environment`; the latter win."""
        found: dict[str, str] = {}
        if "env_file" in keys:
            value = keys["env_file"]
            for each in value.values() if value.is_list else [value]:
                path = self._folder / each.text()
                if not path.is_file():
                    raise each.fail(f"names {str(path)!r}, which is not a file")
                found |= read_variables(path, self._known)
        if "environment" not in keys or keys["environment"].is_null:
            return found
        if keys["environment"].is_mapping:
            return found | {
                name: "" if value.is_null else value.text() for name, value in keys["environment"].mapping().items()
            }
        for each in keys["environment"].values():
            name, equals, text = each.text().partition("=")
            if not (name and equals):
                raise each.fail("is not KEY=VALUE")
            found[name] = text
        return found

    def _start(
        self, name: str, keys: Mapping[str, Value], everywhere: Mapping[str, str], number: int
    ) -> dict[str, Any]:
        """Return the fields of the start of a process."""
        self._check_keys(keys)
        folder = str(self._folder / keys["working_dir"].text()) if "working_dir" in keys else str(self._folder)
        own = {} if "is_dotenv_disabled" in keys and keys["is_dotenv_disabled"].flag() else self._own
        env = {**own, "PC_PROC_NAME": name, "PC_REPLICA_NUM": str(number), **everywhere, **self._environment(keys)}
        start: dict[str, Any] = {
            **self._command(keys),
            "working_dir": folder,
            "env": env,
            "restart": self._restart(keys.get("availability")),
            **self._stop(keys.get("shutdown")),
            **self._ready(keys),
            **self._ours(keys),
        }
        tags = {key: keys[key].text() for key in ("namespace", "description") if key in keys and not keys[key].is_null}
        if "tags" in keys:
            tags |= {tag: value.text() for tag, value in keys["tags"].mapping().items()}
        if tags:
            start["tags"] = tags
        if "success_exit_codes" in keys:
            start["success_exit_codes"] = [value.number() for value in keys["success_exit_codes"].values()]
        return start

    def _command(self, keys: Mapping[str, Value]) -> dict[str, Any]:
        if "entrypoint" in keys and not keys["entrypoint"].is_null:
            words = keys["entrypoint"].texts()
            if not words:
                raise keys["entrypoint"].fail("must name a program")
            return {"command": words[0], "args": words[1:]}
        if "command" not in keys:
            raise (
                next(iter(keys.values())).fail("has no command beside it")
                if keys
                else self._keys["processes"].fail("has a process without a command")
            )
        shell, argument = "sh", "-c"
        if "shell" in self._keys:
            known = {"shell_command", "shell_argument", "elevated_shell_command", "elevated_shell_argument"}
            given = self._keys["shell"].mapping(known)
            shell = given["shell_command"].text() if "shell_command" in given else shell
            argument = given["shell_argument"].text() if "shell_argument" in given else argument
        return {"command": shell, "args": [argument, keys["command"].text()]}

    def _restart(self, value: Value | None) -> dict[str, Any]:
        if value is None or value.is_null:
            return {"policy": "never"}
        known = {"restart", "backoff_seconds", "max_restarts", "exit_on_end", "exit_on_skipped"}
        keys = value.mapping(known)
        policy = "never"
        if "restart" in keys:
            word = str(keys["restart"].plain).lower()
            if word not in _RESTARTS:
                raise keys["restart"].fail(
                    f"must be one of {', '.join(sorted(_RESTARTS.keys() - {'false'}))}{near(word, _RESTARTS)}"
                )
            policy = _RESTARTS[word]
        restart: dict[str, Any] = {"policy": policy}
        if policy != "never":
            backoff_s = keys["backoff_seconds"].number() if "backoff_seconds" in keys else _DEFAULT_BACKOFF_S
            restart["delay_ms"] = 1000 * (backoff_s or _DEFAULT_BACKOFF_S)
            if "max_restarts" in keys and (most := keys["max_restarts"].number()):
                restart["max_restarts"] = most
        return restart

    def _ends_all(self, keys: Mapping[str, Value]) -> bool:
        if "availability" not in keys or not keys["availability"].is_mapping:
            return False
        given = keys["availability"].mapping()
        is_last = "exit_on_end" in given and given["exit_on_end"].flag()
        return is_last or ("restart" in given and given["restart"].plain == "exit_on_failure")

    def _stop(self, value: Value | None) -> dict[str, Any]:
        if value is None or value.is_null:
            return {}
        keys = value.mapping({"command", "signal", "timeout_seconds", "parent_only"})
        found: dict[str, Any] = {}
        if "signal" in keys and (number := keys["signal"].number()):
            found["stop_signal"] = number
        if "timeout_seconds" in keys and (seconds := keys["timeout_seconds"].number()):
            found["stop_grace_ms"] = 1000 * seconds
        if "command" in keys:
            self._project.note("shutdown.command is passed over: processes are ended by their signal")
        return found

    def _ready(self, keys: Mapping[str, Value]) -> dict[str, Any]:
        """Return what tells that a process is ready."""
        probe = keys.get("readiness_probe")
        if probe is not None and "ready_log_line" in keys:
            raise keys["ready_log_line"].fail("and readiness_probe exclude each other")
        if "ready_log_line" in keys:
            return {"ready_log": keys["ready_log_line"].text()}
        if probe is None:
            probe = keys.get("liveness_probe")
        elif "liveness_probe" in keys:
            self._project.note("liveness_probe is passed over beside readiness_probe: a process has one health check")
        return {} if probe is None else {"health_check": health_check(probe, self._project)}

    def _ours(self, keys: Mapping[str, Value]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "user" in keys:
            found["user"] = keys["user"].text()
        if "nice" in keys:
            found["nice"] = keys["nice"].number(-20)
        if "limits" in keys:
            found["limits"] = {name: value.plain for name, value in keys["limits"].mapping().items()}
        if "keep" in keys:
            value = keys["keep"]
            found["keep"] = (
                {name: each.number() for name, each in value.mapping().items()} if value.is_mapping else value.text()
            )
        if "stdin" in keys:
            if keys["stdin"].text() not in {"pipe", "closed"}:
                raise keys["stdin"].fail("must be pipe or closed")
            found["stdin_mode"] = keys["stdin"].text()
        if "timeout" in keys:
            try:
                found["timeout"] = read_duration(keys["timeout"].text())
            except ValueError:
                raise keys["timeout"].fail("must be a time, such as 60s or 2h") from None
        return found

    def _add_needs(self, process: DeclaredProcess, name: str, keys: Mapping[str, Value]) -> None:
        if "depends_on" not in keys or keys["depends_on"].is_null:
            return
        for other, value in keys["depends_on"].mapping().items():
            given = {} if value.is_null else value.mapping({"condition"})
            word = given["condition"].text() if "condition" in given else "process_started"
            if word not in _NEEDS:
                raise given["condition"].fail(f"must be one of {', '.join(_NEEDS)}{near(word, _NEEDS)}")
            if other == name:
                raise value.fail("is the process itself")
            for called in self._replicas.get(other, [other]):
                process.needs[called] = _NEEDS[word]
                process.need_lines[called] = value.place
