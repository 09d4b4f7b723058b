"""Processes that run and that have ended, and requests that are redirected to them."""

from pathlib import Path
from typing import Any

import requests

from tests.fuzz.session import HARMLESS, STARTS, starts_of

INVENTED = "invented"  # the reference stays as it was made up
ENDED_ID = "ended, by id"
ENDED_PID = "ended, by pid"
ENDED_HANDLE = "ended, by handle"
RUNNING = "running"
FILES = "/api/v1/files"
REFS = (ENDED_ID, ENDED_PID, ENDED_HANDLE, RUNNING, INVENTED)
_PROJECT = "shop"
# These calls may end their process: then they get another one.
SPENDING = ("/signal", "/stdin", "/stdin/close")


class World:
    """Processes and files of a daemon to try its calls on.

    Args:
        url: URL of the daemon.
        headers: headers of each call.
        ended: a process that has ended and has output.
        folder: where files may be written.
    """

    def __init__(self, url: str, headers: dict[str, str], ended: dict[str, Any], folder: Path) -> None:
        self._url = f"{url}/api/v1/processes"
        self._session = requests.Session()
        self._session.headers.update(headers)
        self._ended = ended
        self._folder = folder
        self._running = self._start()
        self._spent = self._start()
        self._terminal_id = ""
        self._managed = self._start(restart={"policy": "never"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def prepare(self, case: Any, ref: str) -> None:
        """Change a request so that it names a process of the kind `ref`, and does no harm."""
        path = case.operation.path
        if "{session}" in path and ref != INVENTED:
            case.path_parameters["session"] = self._terminal(spend=case.method == "DELETE")
        if path.endswith("/recording") and ref != INVENTED:
            case.path_parameters["ref"] = self._terminal(spend=False)
        elif "{ref}" in path and ref != INVENTED:
            if case.method == "PUT" or (ref == RUNNING and path.endswith("/restart")):
                case.path_parameters["ref"] = self._managed["id"]
            else:
                case.path_parameters["ref"] = self._ref(ref, spend=case.method == "DELETE" or path.endswith(SPENDING))
        changes = case.method == "PUT" and "{ref}" in path
        if (path in STARTS or changes) and isinstance(case.body, dict):
            case.body = _harmless(case.body)
        if path.endswith("{sandbox}") and ref != INVENTED:
            case.path_parameters["sandbox"] = "local"
        if path.startswith(FILES):
            self._keep_in_folder(case)
        if case.path_parameters and "project" in case.path_parameters and ref != INVENTED:
            case.path_parameters["project"] = _PROJECT
        if case.method == "PUT" and starts_of(case.body):
            processes = {name: _harmless_declared(each) for name, each in case.body["processes"].items()}
            case.body = {**case.body, "processes": processes}
        _hurry(case)

    def _keep_in_folder(self, case: Any) -> None:
        given = (case.query or {}).get("path")
        if isinstance(given, str) and given.startswith("/"):
            file = self._folder / "file"
            file.touch()
            case.query = {**case.query, "path": str(self._folder if case.operation.path.endswith("/list") else file)}

    def _ref(self, kind: str, *, spend: bool) -> str:
        if kind == RUNNING:
            return str((self._spendable() if spend else self._running)["id"])
        if kind == ENDED_HANDLE:
            return f"@{self._ended['handle']}"
        return str(self._ended["id" if kind == ENDED_ID else "pid"])

    def _terminal(self, *, spend: bool) -> str:
        if spend or not self._terminal_id:
            answer = self._session.post(self._url.replace("processes", "pty"), json={"command": "cat"})
            answer.raise_for_status()
            self._terminal_id = answer.json()["session_id"]
        found, self._terminal_id = self._terminal_id, "" if spend else self._terminal_id
        return found

    def _spendable(self) -> dict[str, Any]:
        seen = self._session.get(f"{self._url}/{self._spent['id']}")
        if seen.status_code != requests.codes.ok or not seen.json()["stdin_writable"]:
            self._spent = self._start()
        return self._spent

    def _start(self, **fields: Any) -> dict[str, Any]:
        answer = self._session.post(self._url, json={"command": "cat", "stdin_mode": "pipe", **fields})
        answer.raise_for_status()
        process: dict[str, Any] = answer.json()
        return process


def _harmless(body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with a harmless program and no restarts; what is wrong in it stays wrong."""
    command, restart = body.get("command"), body.get("restart")
    if isinstance(command, str) and command:
        body = {**body, "command": HARMLESS[len(command) % len(HARMLESS)]}
    if isinstance(restart, dict) and isinstance(restart.get("max_restarts", 0), int | None):
        body = {**body, "restart": {**restart, "max_restarts": 0}}  # nothing restarts without end
    return body


def _harmless_declared(declared: Any) -> Any:
    """Return a declared process with a harmless program; what is wrong in it stays wrong."""
    if isinstance(declared, dict) and isinstance(declared.get("start"), dict):
        return {**declared, "start": _harmless(declared["start"])}
    return declared


def _hurry(case: Any) -> None:
    """Make a call that waits wait for the shortest time that the document allows."""
    name = "wait" if "{project}" in case.operation.path else "timeout"
    parameter = case.operation.get_parameter(name, "query")
    given = (case.query or {}).get(name, 0)
    if parameter is not None and isinstance(given, int | float):
        case.query = {**(case.query or {}), name: parameter.definition["schema"].get("minimum", 0)}
