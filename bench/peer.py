"""A peer: a daemon that runs one shell script when it is told, and writes what that prints to a file."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

_START_S = 60.0
_END_S = 60.0
_LOOK_AGAIN_S = 0.02


class Peer(Protocol):
    """A peer that is up, and has not started the script yet."""

    @property
    def output(self) -> Path:
        """File into which the peer writes."""

    def start_program(self) -> None:
        """Start the script, and wait for nothing more than its start."""


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, ready: Callable[[], bool], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a peer's daemon, with a pipe to its standard input, and end it with the context.

    Raises:
        RuntimeError: the peer did not start; the message holds its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours to act on
        )
    try:
        deadline = time.monotonic() + _START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv} does not come up:\n{log.read_text(encoding='utf-8', errors='replace')}")
            time.sleep(_LOOK_AGAIN_S)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_END_S)
