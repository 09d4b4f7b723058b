"""The helper that forks commands for `tests.support.warm`. Its imports are what a fork need not do again.

A failpoint is armed in its environment, which it never reaches: so its forks have failpoints that count, and each arms
those that its own environment names.
"""

import contextlib
import encodings.idna  # noqa: F401
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import NoReturn

import uvloop  # noqa: F401

import outlast.cli
import outlast.client
import outlast.daemon.serve
import outlast.daemon.shutdown
import outlast.storage.memory.storage
import outlast.storage.sqlite.storage
from outlast import failpoints
from outlast.cli import main
from outlast.daemon.preload import import_late_modules
from outlast.storage import storage_from_url
from tests.support.warm import STATUS_BYTES

_MAX_REQUEST_BYTES = 1 << 20


def _serve(sock: socket.socket) -> None:
    """Fork commands until the other end closes the socket, and report how each of them ends."""
    reports: dict[int, int] = {}
    deaths, notify = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(notify)
    while True:
        ready, _, _ = select.select([sock.fileno(), deaths], [], [])
        if deaths in ready:
            os.read(deaths, 1 << 10)
            _report_deaths(reports)
        if sock.fileno() in ready:
            request, fds, _, _ = socket.recv_fds(sock, _MAX_REQUEST_BYTES, 4)
            if not request:
                return
            *streams, status = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                sock.close()
                for fd in {*fds, *reports.values(), deaths, notify}:  # what modules have opened stays open
                    os.close(fd)
                _become_command(**json.loads(request))
            for stream in streams:
                os.close(stream)
            reports[pid] = status
            sock.send(str(pid).encode())


def _report_deaths(reports: dict[int, int]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        report = reports.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(report, os.waitstatus_to_exitcode(status).to_bytes(STATUS_BYTES, "little", signed=True))
        os.close(report)


def _become_command(args: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Run the command, and end without taking the interpreter apart: that would copy all the pages that forks share."""
    status = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        failpoints._arm(env.get(failpoints.VARIABLE, ""))
        sys.argv = ["outlast", *args]
        main(prog_name="outlast")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        else:
            status = ended.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    import_late_modules()
    for package in (outlast.cli, outlast.client):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    storage_from_url("memory:")
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
