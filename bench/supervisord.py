"""The peer: supervisord, told over its unix socket when to start a program, or many copies of it."""

import contextlib
import os
import pwd
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped] # ships no types

from bench.peer import running

_CONFIG = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
minfds = {open_files}
user = {user}

[unix_http_server]
file = {folder}/ctl

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[program:it]
command = /bin/sh {script} %(process_num)d
process_name = %(process_num)d
numprocs = {copies}
autostart = {is_started}
autorestart = false
startsecs = 0
stdout_logfile = {folder}/stdout-%(process_num)d.log
stdout_logfile_maxbytes = 0
stderr_logfile = NONE
"""


class Supervisord:
    """A running supervisord with one program.

    Attributes:
        pid: pid of supervisord.
        outputs: file of each copy of the program.
    """

    def __init__(self, folder: Path, pid: int, copies: int) -> None:
        self.pid = pid
        self.outputs = [folder / f"stdout-{number}.log" for number in range(copies)]
        self._folder = folder

    @property
    def output(self) -> Path:
        """File of the only copy."""
        return self.outputs[0]

    def start_program(self) -> None:
        """Start the only copy, and wait for nothing more than its start."""
        _rpc(self._folder).startProcess("it:0", False)


def _rpc(folder: Path) -> Any:
    transport = SupervisorTransport(serverurl=f"unix://{folder}/ctl")
    return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor


def _answers(folder: Path) -> bool:
    """Return whether supervisord answers calls."""
    try:
        _rpc(folder).getState()
    except (OSError, xmlrpc.client.Error):
        return False
    return True


@contextlib.contextmanager
def supervisord(folder: Path, script: Path, copies: int = 1) -> Iterator[Supervisord]:
    """Run supervisord in `folder`, with the shell script as its one program.

    Several copies, each of which is told its number from 0, are started at once; a single one is not started yet.

    Raises:
        RuntimeError: supervisord did not start.
    """
    config = folder / "supervisord.conf"
    own_name = pwd.getpwuid(os.geteuid()).pw_name  # supervisord run by root wants its user named
    settings = {"copies": copies, "is_started": copies > 1, "open_files": 1024 + 4 * copies}
    config.write_text(_CONFIG.format(folder=folder, script=script, user=own_name, **settings), encoding="utf-8")
    argv = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)]
    with running(argv, ready=lambda: _answers(folder), log=folder / "supervisord.out") as process:
        yield Supervisord(folder, process.pid, copies)
