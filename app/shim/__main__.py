"""`python -m app.shim STATE_DIR READY_FD OPEN_FILES`: become a process of our own, listen, and say so on READY_FD.

`python -m app.shim STATE_DIR init ...`: stay the process that this is; see `init.py`.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

from app.shim import init, lock
from app.shim.linux import keep_freed_memory
from app.shim.listener import Listener
from app.shim.server import Shim


def main() -> None:
    """Run the shim for the state folder in argv[1]; argv[3] is the limit on open files that processes get."""
    if sys.argv[2] == init.MODE:
        init.run(sys.argv[1:])
    state_dir, ready_fd, open_files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(ready_fd, False)
    if os.fork() != 0:  # the daemon gets no child that it would have to reap
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a daemon may ask for the socket before there is a handler
    # One shim a folder, for life: nothing of another one's is touched before this.
    if lock.take(state_dir / lock.SHIM_LOCK_NAME) is None:
        sys.exit(f"another shim looks after {state_dir}")
    keep_freed_memory()
    os.chdir("/")
    listener = Listener(state_dir)
    shim = Shim(listener, state_dir, open_files)
    with contextlib.suppress(OSError):  # the daemon that started this one may be gone: the next one finds it
        os.write(ready_fd, b"ready\n")
    os.close(ready_fd)
    shim.run()
    listener.close()


if __name__ == "__main__":
    main()
