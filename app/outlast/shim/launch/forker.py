"""The fork helper: a small program that forks for the shim. The processes that it forks are children of the shim.

`forkserver.py` runs it in an interpreter that reads neither site-packages nor the environment. Every process that is
started begins as a copy of it: it imports next to nothing.
"""

import errno
import gc
import marshal
import os
import signal
import socket
import struct
import sys

from outlast.linux.clone import fork_sibling
from outlast.linux.closing import close_all_but
from outlast.shim.launch.exec_child import ExecSpec, exec_child, map_report
from outlast.shim.launch.quick_child import QuickChildren
from outlast.wire.fds import ReceivedFds, close_all

HELLO = b"outlast forker 4\n"
"""First bytes that the helper sends. Their number is a version: the helper's files may be newer than the shim."""
REQUEST = struct.Struct("<I")
"""Size of a request in bytes, which is an `ExecSpec`, marshalled. `REQUEST_FDS` descriptors come with it."""
RESULT = struct.Struct("<i")
"""Answer to a request: the pid, or a negative errno."""
REQUEST_FDS = 6
"""Number of descriptors of a request: those that `exec_child` takes, and the report file."""


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive `size` bytes.

    Raises:
        OSError: the other end has closed the socket, or sends nothing within the socket's timeout.
    """
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def main(fd: int) -> None:
    """Fork what is requested over a socket, until its other end closes."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    os.setsid()  # signals of a terminal are not for the helper, nor for the processes that it forks
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # Python changes these when it starts
        signal.signal(number, signal.SIG_DFL)
    close_all_but((fd,))  # no process that is started may inherit what this one has inherited
    gc.freeze()
    gc.disable()  # a collection would touch, and so copy, pages that forked processes share; there are no cycles
    try:
        _serve(sock)
    except ConnectionError:  # the shim may give its helper up at any moment
        pass
    except BaseException:  # noqa: BLE001 - nobody is there to catch it
        sys.excepthook(*sys.exc_info())
    os._exit(0)  # at once: children that wait at their gates need the memory of this process as it is


def _serve(sock: socket.socket) -> None:
    quick = QuickChildren(sock.fileno())
    sock.sendall(HELLO)
    received = ReceivedFds()
    head = bytearray(REQUEST.size)
    while received.receive(sock, memoryview(head)):
        (size,) = REQUEST.unpack(head)
        fields = marshal.loads(receive_exactly(sock, size))  # noqa: S302 - the shim has made this socket
        sock.sendall(RESULT.pack(_start(quick, ExecSpec(*fields), received.take_fds(REQUEST_FDS))))


def _start(quick: QuickChildren, spec: ExecSpec, fds: list[int]) -> int:
    *child_fds, report_fd = fds
    try:
        if (quick_pid := quick.start(spec, fds)) is not None:
            return quick_pid
        with map_report(report_fd) as report:
            pid, joined = fork_sibling(spec.group)
            if pid == 0:
                exec_child(spec._replace(group=None) if joined else spec, child_fds, report)
            return pid
    except OSError as exc:
        return -(exc.errno or errno.EAGAIN)
    finally:
        close_all(fds)
