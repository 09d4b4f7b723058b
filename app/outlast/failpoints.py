"""Named points at which tests kill the process as by `kill -9`. Nothing happens at a point that is not armed.

`OUTLAST_FAILPOINTS=point:count[,point:count...]` arms points: the process kills itself when it reaches `point` for the
`count`-th time (1 if left out). Daemon and shim read the same variable and have no point in common.
"""

import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "OUTLAST_FAILPOINTS"

POINTS: Mapping[str, str] = {
    "frame-read": "daemon: it has received a frame from the shim, and nothing of it is on its way to the store",
    "event-sent": "daemon: it has sent a follower events whose lines may not be stored",
    "before-commit": "daemon: it is about to give a batch to the store",
    "inside-commit": "daemon: the store has applied a change inside the open transaction",
    "inside-compaction": "daemon: compaction has deleted rows that become one, inside the open transaction",
    "inside-compression": "daemon: compression has replaced a row, inside the open transaction",
    "inside-trim": "daemon: the store has marked output as deleted, inside the open transaction",
    "inside-trim-deletion": "daemon: rows of trimmed output are deleted, inside the open transaction",
    "after-trim-deletion": "daemon: some rows of trimmed output are deleted, and others may be left",
    "after-commit": "daemon: the store has committed a batch, and no waiter knows",
    "after-ack": "daemon: it has acknowledged a chunk to the shim",
    "start-asked": "daemon: it has asked the shim to start a process",
    "start-forked": "daemon: the shim has forked a process, which waits at its gate and is not recorded",
    "start-recorded": "daemon: it has recorded a start, and the gate is shut",
    "restart-forked": "daemon: the shim has forked another run, which waits at its gate and is not recorded",
    "restart-recorded": "daemon: it has recorded another run, and the gate is shut",
    "restart-decided": "daemon: it has stored when a process is restarted",
    "stop-wanted": "daemon: it has stored that a process is to be stopped, and has not signalled the process",
    "replacement-begun": "daemon: it has stored that another run takes the place of one, which runs on",
    "replaced-run-ended": "daemon: it has ended a run to start another one in its place",
    "end-seen": "daemon: the shim has told it of an exit, which is not stored",
    "before-last-ack": "daemon: all output of a process is stored, and the shim does not know",
    "after-last-ack": "daemon: it has told the shim to forget a process",
    "handover-begun": "daemon: its shim has died, and it has met the next one",
    "handover-step": "daemon: it has handed one process over to a new shim",
    "recovery-begun": "daemon: it has met the shim and has adopted no process",
    "recovery-step": "daemon: it has adopted one of the shim's processes",
    "recovery-done": "daemon: it has adopted all processes, and does not listen yet",
    "shim-forked": "shim: it has forked a process, which waits at its gate, and the daemon does not know",
    "shim-opened": "shim: it has opened a gate, and the outcome of the start is not known",
    "shim-read": "shim: output has left its pipe, and is not noted",
    "shim-reaped": "shim: it has reaped a process, and the daemon does not know the exit status",
    "migration-inside": "daemon: a migration's statements have run, and are not committed",
    "migration-after": "daemon: a migration is committed",
}
"""Every point, and what has happened when a program reaches it."""


def _do_nothing(point: str) -> None:
    """Continue: no point is armed."""


_left: dict[str, int] = {}


def _arm(text: str) -> None:
    _left.clear()
    for entry in text.split(",") if text else ():
        point, _, count = entry.partition(":")
        if point not in POINTS:
            raise SystemExit(f"{VARIABLE}: unknown failpoint {point!r}; the failpoints are {', '.join(POINTS)}")
        _left[point] = int(count or 1)


def _count(point: str) -> None:
    """Die if the point is armed and this is the time."""
    if point in _left:
        _left[point] -= 1
        if _left[point] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


_arm(os.environ.get(VARIABLE, ""))
failpoint: Callable[[str], None] = _count if _left else _do_nothing
"""A function to call with the name of a point, at that point."""
