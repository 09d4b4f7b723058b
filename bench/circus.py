"""The peer that works like supervisord, on ZeroMQ: circus, told over its unix socket when to start the program."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from circus.client import CircusClient  # type: ignore[import-untyped] # ships no types

from bench.peer import running

_CONFIG = """
[circus]
endpoint = ipc://{folder}/ctl
pubsub_endpoint = ipc://{folder}/pub
statsd = false
# circus drops what is in the pipe when it notices an end, so it does not check for ends.
check_delay = -1

[watcher:flood]
cmd = /bin/sh {script}
autostart = false
respawn = false
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/stdout.log
"""
_ANSWER_S = 60.0


class Circus:
    """A running circus with one program, which is not started yet."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "stdout.log"
        self._endpoint = f"ipc://{folder}/ctl"

    def start_program(self) -> None:
        """Start the program, and wait for nothing more than its start."""
        self.call("start", name="flood")

    def call(self, command: str, **properties: str) -> None:
        """Send a command, and wait for the answer."""
        client = CircusClient(endpoint=self._endpoint, timeout=_ANSWER_S)
        try:
            client.send_message(command, **properties)
        finally:
            client.stop()


@contextlib.contextmanager
def circus(folder: Path, script: Path) -> Iterator[Circus]:
    """Run circus in `folder`, with the shell script as its one program.

    Raises:
        RuntimeError: circus did not start.
    """
    config = folder / "circus.ini"
    config.write_text(_CONFIG.format(folder=folder, script=script), encoding="utf-8")
    server = Circus(folder)
    argv = [sys.executable, "-W", "ignore", "-m", "circus.circusd", str(config)]
    with running(argv, ready=(folder / "ctl").exists, log=folder / "circus.log"):
        server.call("list")  # the socket exists before circus serves it
        yield server
