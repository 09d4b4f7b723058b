"""Signalling and killing: one process, its group, or its tree."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from outlast.linux.cgroup import contains
from outlast.linux.process import has_ended, signal_group, signal_process
from outlast.shim.event_loop import Loop
from outlast.shim.kill import tree
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.state.child import Child
from outlast.wire.identity import make_mark

_KILL_ROUNDS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0)
"""Delays before the rounds of a kill, which ends when nothing is left."""
_SIGNAL_PASSES = 5
"""Maximum number of times that a tree is searched for processes that were forked while others were signalled."""


class KillOutcome(NamedTuple):
    """Result of a kill so far.

    Attributes:
        is_gone: whether nothing of the tree is left, as far as can be told.
        strays: pids of processes that may belong to the tree, and that are not killed, because nothing tells whose they
            are. Empty until the tree is gone.
        since_ticks: time from boot to a moment before the tree's start; 0 if it is not known.
    """

    is_gone: bool
    strays: Sequence[int]
    since_ticks: int


class Killer:
    """A killer of trees, which kills in rounds until they are gone."""

    def __init__(
        self, loop: Loop, children: Callable[[], Iterator[Child]], groups: CgroupRoot | None, secret: str
    ) -> None:
        """`children` yields every process of this shim, `secret` makes the marks of their runs."""
        self._loop = loop
        self._children = children
        self._groups = groups
        self._secret = secret
        self._under_way: set[str] = set()
        self._sweeps = 0

    def mark_of(self, run_key: str) -> int:
        """Return the mark of a run."""
        return make_mark(self._secret, run_key)

    @property
    def is_idle(self) -> bool:
        """Whether no kill is under way."""
        return not self._under_way and self._sweeps == 0

    # ---- signals

    def signal(self, child: Child, number: int, scope: str) -> None:
        """Send a signal.

        Args:
            child: the process.
            number: number of the signal.
            scope: `process`; `group`, its process group; `tree`, the process and all its descendants.

        Raises:
            ProcessLookupError: the process has ended.
            PermissionError: the system refuses.
        """
        if child.reaped:
            raise ProcessLookupError
        if scope == "process":
            signal_process(child.pidfd, child.pid, number)
        elif scope == "tree":
            self._signal_tree(child, number)
            if number == signal.SIGKILL:
                self.kill(child.id)  # until nothing is left, as a tree may fork while it is killed
        elif child.adopted:
            signal_group(child.pidfd, child.pid, number)
        else:
            os.killpg(child.pid, number)  # not reaped, so its pid, and with it the group, is certainly its own

    def _signal_tree(self, child: Child, number: int) -> None:
        if has_ended(child.pidfd):
            raise ProcessLookupError
        reached: set[tree.Member] = set()
        refused: PermissionError | None = None
        for _ in range(_SIGNAL_PASSES):
            fresh = self._find_tree(child) - reached
            if not fresh:
                break
            # The process itself comes first: it could end in its own way when a descendant that it waits for is gone.
            for member in sorted(fresh, key=lambda member: member.pid != child.pid):
                try:
                    tree.signal_exactly(member, number)
                except PermissionError as exc:
                    refused = exc
            reached |= fresh
        if refused is not None:
            raise refused

    def _find_tree(self, child: Child) -> set[tree.Member]:
        if self._groups is None or child.group is None or not contains(child.group, child.pid):
            return tree.find_tree(child.pid, self.mark_of(child.id))
        return tree.find_in_group(child.group)

    # ---- kills

    def kill(self, process_id: str, since_ticks: int = 0) -> KillOutcome:
        """SIGKILL a process's tree, also when the process has ended and is forgotten here.

        What is left is killed again, in rounds. Call this again to learn whether the tree is gone: that does not make
        the rounds faster. `since_ticks`: as an earlier outcome had it, because the process may be forgotten since.
        """
        since_ticks = next((c.since_ticks for c in self._children() if c.id == process_id), since_ticks)
        first = process_id not in self._under_way
        is_gone = self._kill_once(process_id, freeze=not first)
        if first and not is_gone:
            self._under_way.add(process_id)
            self._schedule_round(process_id, 1)
        return KillOutcome(is_gone, self._find_strays(since_ticks) if is_gone else (), since_ticks)

    def _schedule_round(self, process_id: str, round_number: int) -> None:
        def kill_again() -> None:
            is_gone = self._kill_once(process_id, freeze=round_number > 1)
            if is_gone or round_number + 1 == len(_KILL_ROUNDS_S):
                self._under_way.discard(process_id)
            else:
                self._schedule_round(process_id, round_number + 1)

        self._loop.call_later(_KILL_ROUNDS_S[round_number], kill_again)

    def _kill_once(self, process_id: str, *, freeze: bool) -> bool:
        mark = self.mark_of(process_id)
        known = [child for child in self._children() if child.id == process_id]
        # Another process may have the pid of an adopted one that has ended.
        live = next((c for c in known if not c.reaped and not (c.adopted and has_ended(c.pidfd))), None)
        group = next((child.group for child in reversed(known) if child.group is not None), None)
        # A process that runs as root may have left its cgroup, and its descendants with it.
        left_group = live is not None and group is not None and not contains(group, live.pid)
        in_group = self._groups is not None and self._groups.kill(process_id, group)
        if live is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.signal(live, signal.SIGKILL, "group")
        if in_group and not left_group:
            lives_on = live is not None and not has_ended(live.pidfd)
            if lives_on or (self._groups is not None and self._groups.is_populated(process_id, group)):
                return False
            # What has left the cgroup is now below this process.
            return all(orphan.mark != mark for orphan in self._find_orphans()) or not tree.kill_tree(None, mark)
        leader = live.pid if live is not None else None
        # A process that is forked while /proc is read can be missed once.
        kill = partial(tree.kill_tree, leader, mark)
        return not _at_least(partial(kill, freeze=freeze)) and not _at_least(kill)

    def _find_orphans(self) -> list[tree.Orphan]:
        return tree.find_orphans({child.pid for child in self._children() if not child.adopted and not child.reaped})

    def _find_strays(self, since_ticks: int) -> list[int]:
        """Find the orphans started since then that bear no mark, and nothing else tells which tree they belong to.

        A process that became another user by PAM has no limit of its own, and may have a clean environment.
        """
        sessions = {child.pid for child in self._children() if not child.reaped}
        return [
            orphan.pid
            for orphan in self._find_orphans()
            if orphan.mark is None
            and orphan.start_ticks >= since_ticks
            and orphan.session not in sessions
            and (self._groups is None or not contains(str(self._groups.path), orphan.pid))
        ]

    def sweep(self, process_ids: Sequence[str], round_number: int = 0) -> None:
        """SIGKILL what is left of processes of another shim that this one has not adopted."""
        if self._groups is not None:
            for process_id in process_ids:
                self._groups.kill(process_id, None)
        found = _at_least(partial(tree.kill_marked, {self.mark_of(process_id) for process_id in process_ids}))
        if found and round_number + 1 < len(_KILL_ROUNDS_S):

            def sweep_again() -> None:
                self._sweeps -= 1
                self.sweep(process_ids, round_number + 1)

            self._sweeps += 1
            self._loop.call_later(_KILL_ROUNDS_S[round_number + 1], sweep_again)

    def kill_remaining(self, reap: Callable[[], None]) -> None:
        """SIGKILL and reap all processes that have outlived their leaders, before the shim ends."""
        deadline = time.monotonic() + _KILL_ROUNDS_S[-1]
        while time.monotonic() < deadline:
            if self._groups is not None:
                self._groups.kill_all()
            found = _at_least(tree.kill_descendants)
            reap()
            if found == 0 and (self._groups is None or self._groups.remove()):
                return
            time.sleep(_KILL_ROUNDS_S[1])


def _at_least(kill: Callable[[], int]) -> int:
    """Return how many processes a kill has found; 1 if no descriptor is free to find them: there may be some."""
    try:
        return kill()
    except OSError:
        return 1
