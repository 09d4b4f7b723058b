"""A program that forks: it has hardly anything of its own, and what it forks are children of who started it.

Run by `forkserver.py`, in an interpreter that reads neither site-packages nor the environment. Whatever this module
imports, each process that is started is a copy of: so it is little.
"""

import errno
import gc
import marshal
import os
import signal
import socket
import struct

from outlast.linux.clone import fork_sibling
from outlast.shim.launch.exec_child import ExecSpec, become, map_report
from outlast.wire.fds import ReceivedFds, close_all

HELLO = b"outlast forker 1\n"
"""Said first. The number stands for what is said behind it: the files of this program may be newer than the shim."""
ORDER = struct.Struct("<I")
"""Of how many bytes an order is: the fields of a `program.Order`, marshalled. ORDER_FDS come with it."""
RESULT = struct.Struct("<i")
"""What becomes of an order: the pid, or an error's number as a negative one."""
ORDER_FDS = 6
"""Those that `program.become` takes, and the report."""


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive so many bytes.

    Raises:
        OSError: the other end is gone, or says nothing for as long as the socket waits.
    """
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def main(fd: int) -> None:
    """Fork what is ordered over a socket until its other end is gone."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    os.setsid()  # what a terminal sends is not for this one, nor for what it forks
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # what Python changes when it starts
        signal.signal(number, signal.SIG_DFL)
    gc.freeze()
    gc.disable()  # a collection would touch, and so copy, what forks share; and there are no cycles to be collected
    sock.sendall(HELLO)
    received = ReceivedFds()
    head = bytearray(ORDER.size)
    while received.receive(sock, memoryview(head)):
        (size,) = ORDER.unpack(head)
        fields = marshal.loads(receive(sock, size))  # noqa: S302 - the shim's, which has made this socket
        sock.sendall(RESULT.pack(_fork(fields, received.take(ORDER_FDS))))


def _fork(fields: tuple[object, ...], fds: list[int]) -> int:
    order = ExecSpec(*fields)
    *theirs, report = fds
    try:
        with map_report(report) as told:
            pid, joined = fork_sibling(order.group)
            if pid == 0:
                become(order._replace(group=None) if joined else order, theirs, told)
            return pid
    except OSError as exc:
        return -(exc.errno or errno.EAGAIN)
    finally:
        close_all(fds)
