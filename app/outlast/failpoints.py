"""Named points at which a test can let this process die as by `kill -9`: nothing happens there unless one is armed.

`OUTLAST_FAILPOINTS=point:count[,point:count...]` arms points: the process kills itself when it comes to `point` for the
`count`-th time (1 if left out). Daemon and shim read the same variable and have no point in common.
"""

import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "OUTLAST_FAILPOINTS"

POINTS: Mapping[str, str] = {
    "frame-read": "daemon: a frame has been taken from the shim, nothing of it is on its way to the store",
    "before-commit": "daemon: a batch is about to be given to the store",
    "inside-commit": "daemon: a change has been applied inside the store's open transaction",
    "inside-compaction": "daemon: rows that are merged into one are deleted inside the store's open transaction",
    "inside-compression": "daemon: a row is compressed inside the store's open transaction",
    "after-commit": "daemon: a batch is committed, and nobody has been told",
    "after-ack": "daemon: the shim has been told that a chunk is stored",
    "start-asked": "daemon: the shim has been asked to start a process",
    "start-forked": "daemon: the shim has forked a process, which waits at its gate and is not recorded",
    "start-recorded": "daemon: a start is recorded, and its gate is shut",
    "restart-forked": "daemon: a process has been forked again, and waits at its gate; that run is not recorded",
    "restart-recorded": "daemon: another run is recorded, and its gate is shut",
    "restart-decided": "daemon: it is stored when a process is started again",
    "stop-wanted": "daemon: it is stored that a process is not to run, and it has not been told",
    "end-seen": "daemon: the shim has told of an end, and it is not stored",
    "before-last-ack": "daemon: all of a process is stored, and the shim has not been told",
    "after-last-ack": "daemon: the shim has been told to forget a process",
    "handover-begun": "daemon: its shim has died, and it has met the next one",
    "handover-step": "daemon: it has handed a process over to a new shim",
    "recovery-begun": "daemon: it has met the shim and taken up nothing",
    "recovery-step": "daemon: it has taken up one of the shim's processes",
    "recovery-done": "daemon: it has taken up all, and does not listen yet",
    "shim-forked": "shim: a process is forked and waits at its gate, and nobody else knows of it",
    "shim-opened": "shim: a gate has been opened, and it is not known what becomes of the start",
    "shim-read": "shim: output has left its pipe, and is not noted",
    "shim-reaped": "shim: an exit status has been taken from the kernel, and nobody has been told",
    "migration-inside": "daemon: a migration's statements have run, and it is not committed",
    "migration-after": "daemon: a migration is committed",
}
"""Every point, and what has happened when it is reached."""


def _nothing(point: str) -> None:
    """Nothing is armed."""


def _armed(text: str) -> Callable[[str], None]:
    left: dict[str, int] = {}
    for entry in text.split(","):
        point, _, count = entry.partition(":")
        if point not in POINTS:
            raise SystemExit(f"{VARIABLE}: there is no point {point!r}; there are {', '.join(POINTS)}")
        left[point] = int(count or 1)

    def failpoint(point: str) -> None:
        if point in left:
            left[point] -= 1
            if left[point] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


failpoint = _armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing
"""To be called with the name of a point, where it is reached."""
