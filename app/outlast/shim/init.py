"""The shim as an init: in place, without becoming a process of its own, and the daemon's parent."""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from outlast.linux import lock
from outlast.linux.memory import keep_freed_memory
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.log import log
from outlast.shim.server import Shim
from outlast.wire.contract import BLOCKED_SIGNALS, SHIM_LOCK_NAME, SHIM_USE
from outlast.wire.identity import load_identity


def run_init(argv: list[str]) -> NoReturn:
    """Be the init for `STATE_DIR init OPEN_FILES END_WITHIN_S DOWN... -- COMMAND...`, and exit when all has ended.

    The working directory stays: the daemon's command may name files in it. The caller has blocked `BLOCKED_SIGNALS`.
    """
    state_dir, open_files, end_within_s, rest = Path(argv[0]), int(argv[2]), float(argv[3]), argv[4:]
    middle = rest.index("--")
    locked = lock.acquire_in_folder(state_dir, SHIM_LOCK_NAME, SHIM_USE)
    if locked is None:
        log(f"another shim runs for {state_dir}: end it with `outlast shutdown --state-dir {state_dir}`")
        sys.exit(1)
    folder, lock_fd = locked
    keep_freed_memory()
    listener = Listener(state_dir, [folder])
    supervisor = DaemonSupervisor(
        state_dir=state_dir,
        command=rest[middle + 1 :],
        down=rest[:middle],
        open_files=open_files,
        end_within_s=end_within_s,
    )
    secret = load_identity(state_dir).secret
    shim = Shim(listener, state_dir, open_files=open_files, secret=secret, lock_fd=lock_fd, supervisor=supervisor)
    serve_and_exit(shim, listener, supervisor)


def serve_and_exit(shim: Shim, listener: Listener, supervisor: DaemonSupervisor) -> NoReturn:
    """Run an init's shim to its end, and exit."""
    shim.serve()
    listener.close()
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)  # Python removes its handlers before the process ends
    sys.exit(supervisor.exit_code)
