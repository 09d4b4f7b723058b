"""The shim's program.

`python -m outlast.shim STATE_DIR READY_FD OPEN_FILES`: become a process of its own, listen, and report on READY_FD.
`python -m outlast.shim STATE_DIR init ...`: stay the process that this is; see `init.py`.
`python -m outlast.shim --resume FD STATE_DIR`: continue as an earlier version of this program; see `upgrade.py`.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from outlast.linux import lock
from outlast.linux.inherited import reset_signals
from outlast.linux.memory import keep_freed_memory
from outlast.shim import init, upgrade
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.log import log
from outlast.shim.server import Shim
from outlast.wire.codec import PROTOCOL_VERSION
from outlast.wire.contract import (
    BLOCKED_SIGNALS,
    INIT_MODE,
    MARK_VARIABLE,
    OWN_MARK,
    SHIM_LOCK_NAME,
    SHIM_USE,
    STATE_VERSION,
)
from outlast.wire.identity import load_identity


def main() -> None:
    """Run the shim for the state folder argv[1]. argv[3] is the soft limit on open files that processes get."""
    os.environ[MARK_VARIABLE] = OWN_MARK  # for the fork helper, and for the daemon of an init
    if sys.argv[1] == upgrade.RESUME:
        _resume(int(sys.argv[2]))
    if sys.argv[2] == INIT_MODE:
        init.run_init(sys.argv[1:])
    state_dir, ready_fd, open_files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(ready_fd, False)
    if os.fork() != 0:  # the daemon gets no child that it would have to reap
        os._exit(0)
    reset_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a daemon may ask for the socket before there is a handler
    # One shim for each state folder, for life: nothing of another one is touched before the lock is held.
    locked = lock.acquire_in_folder(state_dir, SHIM_LOCK_NAME, SHIM_USE)
    if locked is None:
        log(f"another shim runs for {state_dir}. If its files were removed, SIGHUP makes it listen again")
        sys.exit(1)
    folder, lock_fd = locked
    keep_freed_memory()
    os.chdir("/")
    listener = Listener(state_dir, [folder])
    secret = load_identity(state_dir).secret
    shim = Shim(listener, state_dir, open_files=open_files, secret=secret, lock_fd=lock_fd)
    with contextlib.suppress(OSError):  # the daemon that started this shim may be gone: the next one finds it
        os.write(ready_fd, b"ready\n")
    os.close(ready_fd)
    shim.serve()
    listener.close()


def _resume(memory: int) -> NoReturn:
    """Continue as the shim that this process was before its exec."""
    keep_freed_memory()
    state = upgrade.load_state_file(memory)
    state_dir = Path(state["state_dir"])
    listener = Listener(state_dir, state["listener"])
    supervisor = DaemonSupervisor.resume(state["supervisor"]) if state["supervisor"] is not None else None
    shim = Shim(
        listener,
        state_dir,
        open_files=state["open_files"],
        secret=state["secret"],
        lock_fd=state["lock_fd"],
        supervisor=supervisor,
        state=state,
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*BLOCKED_SIGNALS, signal.SIGCHLD))
    log(f"upgraded: state version {STATE_VERSION}, protocol version {PROTOCOL_VERSION}")
    upgrade.confirm(state["asker"], {"protocol": PROTOCOL_VERSION})
    if supervisor is not None:
        init.serve_and_exit(shim, listener, supervisor)
    shim.serve()
    listener.close()
    sys.exit()


if __name__ == "__main__":
    main()
