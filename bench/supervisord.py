"""The peer for the flood: supervisord, told over its unix socket when to start the program."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

_CONFIG = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
user = {user}

[unix_http_server]
file = {folder}/ctl

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[program:flood]
command = /bin/sh {script}
autostart = false
autorestart = false
startsecs = 0
stdout_logfile = {folder}/stdout.log
stdout_logfile_maxbytes = 0
stderr_logfile = NONE
"""
_START_S = 30.0
_END_S = 30.0
_LOOK_AGAIN_S = 0.02


class Supervisord:
    """A running supervisord with one program, which is not started yet."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "stdout.log"
        self._socket = folder / "ctl"

    def answers(self) -> bool:
        """Tell whether it takes calls."""
        try:
            self._rpc().getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start_program(self) -> None:
        """Start the program, and wait for nothing more than its start."""
        self._rpc().startProcess("flood", False)

    def _rpc(self) -> Any:
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor


@contextlib.contextmanager
def supervisord(folder: Path, script: Path) -> Iterator[Supervisord]:
    """Run supervisord in `folder`, with the shell script as its one program.

    Raises:
        RuntimeError: it does not come up.
    """
    config = folder / "supervisord.conf"
    own_name = pwd.getpwuid(os.geteuid()).pw_name  # it wants root to say that root is meant
    config.write_text(_CONFIG.format(folder=folder, script=script, user=own_name), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours to act on
    )
    try:
        server = Supervisord(folder)
        deadline = time.monotonic() + _START_S
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("supervisord does not come up")
            time.sleep(_LOOK_AGAIN_S)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_END_S)
