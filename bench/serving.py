"""An Outlast for a bench: a daemon over a state folder, and blocking calls to it."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.client import Client
from harness.http_client import EVENT_STREAM
from harness.proc import forker_pid
from outlast.linux import lock
from outlast.wire.contract import SHIM_LOCK_NAME

_OUTLAST = (sys.executable, "-m", "outlast")
_START_S = 30.0
_ANSWER_S = 60.0
_END_S = 300.0


class Outlast:
    """`outlast serve` on a port of loopback. It can be killed and started again; `end` ends all that it started."""

    def __init__(self, state_dir: Path, *, durable: bool = True, compress_after_s: int = 600) -> None:
        self.database = state_dir / "outlast.db"
        self.host, self.port = "127.0.0.1", 0
        self._state_dir = state_dir
        self._log = state_dir.with_suffix(".log")
        self._config = state_dir.with_suffix(".toml")
        settings = f"durable = {str(durable).lower()}\ncompress_after_s = {compress_after_s}\nstop_grace_ms = 0\n"
        self._config.write_text(settings, encoding="utf-8")
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of the daemon."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Pid of the daemon."""
        return self._running().pid

    @property
    def shim_pid(self) -> int:
        """Pid of the shim.

        Raises:
            RuntimeError: no shim runs.
        """
        pid = lock.holder(self._state_dir / SHIM_LOCK_NAME)
        if pid is None:
            raise RuntimeError("no shim runs")
        return pid

    @property
    def pids(self) -> list[int]:
        """Pids of daemon and shim, and of the fork helper once a process was started."""
        forker = forker_pid(self.shim_pid)
        return [self.pid, self.shim_pid, *([] if forker is None else [forker])]

    @property
    def token(self) -> str:
        """API token of the daemon."""
        return (self._state_dir / "token").read_text(encoding="utf-8").strip()

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every call needs."""
        return {"Authorization": f"Bearer {self.token}"}

    def start(self) -> None:
        """Start the daemon, at the same address as before, and wait until it listens.

        Raises:
            RuntimeError: the daemon does not listen; the message holds its log.
        """
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self._command("serve", "--listen", f"{self.host}:{self.port}"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to act on
            )
        output = self._daemon.stdout
        assert output is not None  # noqa: S101 - a pipe was asked for
        said = output.readline() if select.select([output], [], [], _START_S)[0] else b""
        if not said.startswith(b"listening on "):
            raise RuntimeError(f"the daemon does not listen:\n{self._log.read_text(encoding='utf-8')}")
        self.port = urlsplit(said.split()[-1].decode()).port or 0

    def kill(self) -> None:
        """Kill the daemon alone with SIGKILL."""
        self._stop(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the daemon by SIGTERM. Processes run on."""
        self._stop(signal.SIGTERM)

    def end(self) -> None:
        """End daemon, processes and shim."""
        if self._daemon is not None:
            self.stop()
        subprocess.run(
            self._command("shutdown"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_END_S,
            check=True,
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make one call below the API's root and return its JSON.

        Raises:
            RuntimeError: the daemon refused the call.
        """
        with self.connected() as client:
            raw = client.request(method, path, body)
        return json.loads(raw) if raw else None

    @contextlib.contextmanager
    def connected(self, timeout_s: float = _ANSWER_S) -> Iterator[Client]:
        """Connect a client to the daemon, and close its connection at the end."""
        with contextlib.closing(Client(self.host, self.port, self.headers, timeout_s)) as client:
            yield client

    def run(self, argv: list[str]) -> dict[str, Any]:
        """Start a process."""
        answer: dict[str, Any] = self.call("POST", "/processes", {"command": argv[0], "args": argv[1:]})
        return answer

    def stored_lines(self, process: dict[str, Any]) -> int:
        """Wait until a process's output is complete, and count its lines.

        A line that came in parts, on a busy machine, counts once for each part.
        """
        with self.connected(_END_S) as client:
            client.get(f"/processes/{process['id']}/output/follow?tail=0", EVENT_STREAM)
        lines: int = self.call("GET", f"/processes/{process['id']}")["output"]["lines"]
        return lines

    def _command(self, *words: str) -> list[str]:
        return [*_OUTLAST, *words, "--state-dir", str(self._state_dir), "--config", str(self._config)]

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
def outlast(state_dir: Path, *, durable: bool = True, compress_after_s: int = 600) -> Iterator[Outlast]:
    """Serve from `state_dir`, and leave nothing running."""
    server = Outlast(state_dir, durable=durable, compress_after_s=compress_after_s)
    try:
        server.start()
        yield server
    finally:
        server.end()
