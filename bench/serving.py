"""An Outlast of one's own: a daemon over a state folder, and calls to it by plain blocking HTTP."""

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_OUTLAST = (sys.executable, "-m", "app.cli")
_START_S = 30.0
_END_S = 60.0


class Outlast:
    """`outlast serve` on a free port of loopback. It can be killed and started again; `end` ends all it started."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.database = state_dir / "outlast.db"
        self.host, self.port = "", 0
        self._daemon: subprocess.Popen[bytes] | None = None
        self._log = state_dir.with_name(state_dir.name + ".log")

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return self._running().pid

    def start(self) -> None:
        """Start the daemon and wait until it listens.

        Raises:
            RuntimeError: it does not; what it logged is told.
        """
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [*_OUTLAST, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(self.state_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to act on
            )
        output = self._daemon.stdout
        assert output is not None  # noqa: S101 - a pipe was asked for
        said = output.readline() if select.select([output], [], [], _START_S)[0] else b""
        if not said.startswith(b"listening on "):
            raise RuntimeError(f"the daemon does not listen:\n{self._log.read_text()}")
        address = urlsplit(said.split()[-1].decode())
        self.host, self.port = str(address.hostname), int(address.port or 0)

    def kill(self) -> None:
        """Kill -9 the daemon, and nothing else."""
        self._stop(signal.SIGKILL)

    def end(self) -> None:
        """End daemon, processes and shim."""
        if self._daemon is not None:
            self._stop(signal.SIGTERM)
        subprocess.run(
            [*_OUTLAST, "down", "--state-dir", str(self.state_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_END_S,
            check=True,
        )

    def headers(self) -> dict[str, str]:
        """What every call must show."""
        token = (self.state_dir / "token").read_text(encoding="utf-8").strip()
        return {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make one call below /api/v1 and return its JSON.

        Raises:
            RuntimeError: it was refused.
        """
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=_START_S)) as connection:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v1{path}", data, {**self.headers(), "Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {raw.decode()}")
        return json.loads(raw) if raw else None

    def run(self, argv: list[str], **fields: Any) -> dict[str, Any]:
        """Start a process."""
        answer: dict[str, Any] = self.call("POST", "/processes", {"command": argv[0], "args": argv[1:], **fields})
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._daemon is None:
            raise RuntimeError("the daemon is not running")
        return self._daemon

    def _stop(self, number: int) -> None:
        daemon, self._daemon = self._running(), None
        daemon.send_signal(number)
        daemon.wait(_END_S)
        if daemon.stdout is not None:
            daemon.stdout.close()


@contextlib.contextmanager
def outlast(state_dir: Path) -> Iterator[Outlast]:
    """Serve from `state_dir`, and leave nothing running."""
    server = Outlast(state_dir)
    try:
        server.start()
        yield server
    finally:
        server.end()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
