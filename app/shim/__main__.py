"""`python -m app.shim STATE_DIR READY_FD OPEN_FILES`: become a process of our own, listen, and say so on READY_FD."""

import contextlib
import os
import socket
import sys
from pathlib import Path

from app.shim.linux import keep_freed_memory, socket_address
from app.shim.server import Shim

SOCKET_NAME = "shim.sock"


def main() -> None:
    """Run the shim for the state folder in argv[1]; argv[3] is the limit on open files that processes get."""
    state_dir, ready_fd, open_files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(ready_fd, False)
    if os.fork() != 0:  # the daemon gets no child that it would have to reap
        os._exit(0)
    keep_freed_memory()
    os.chdir("/")
    directory = os.open(state_dir, os.O_DIRECTORY | os.O_RDONLY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET_NAME, dir_fd=directory)
    shim = Shim(listener, state_dir, open_files)  # sets the umask, with which the socket is made 0600
    listener.bind(socket_address(directory, SOCKET_NAME))
    listener.listen(16)
    os.write(ready_fd, b"ready\n")
    os.close(ready_fd)
    shim.run()
    os.unlink(SOCKET_NAME, dir_fd=directory)


if __name__ == "__main__":
    main()
