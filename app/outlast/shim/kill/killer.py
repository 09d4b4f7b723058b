"""Signalling and killing: one process, its group, or everything that it ever started."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from outlast.linux.cgroup import contains
from outlast.linux.process import has_ended, signal_group, signal_process
from outlast.shim.event_loop import Loop
from outlast.shim.kill import tree
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.state.child import Child

_KILL_ROUNDS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0)
# How often a tree is gone over for what forked while the others were signalled.
_SIGNAL_PASSES = 5


class Killer:
    """Ends the trees of processes, and looks whether they are gone."""

    def __init__(self, loop: Loop, children: Callable[[], Iterator[Child]], groups: CgroupRoot | None) -> None:
        """`children` yields every process that is looked after."""
        self._loop = loop
        self._children = children
        self._groups = groups
        self._under_way: set[str] = set()
        self._sweeps = 0

    @property
    def is_quiet(self) -> bool:
        """Whether no kill is under way."""
        return not self._under_way and self._sweeps == 0

    # ---- signals

    def signal(self, child: Child, number: int, scope: str) -> None:
        """Send a signal.

        Args:
            child: it has not ended.
            number: of the signal.
            scope: `process`, the one that was started; `group`, its process group; `tree`, everything it ever started.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: the system refuses.
        """
        if child.reaped:
            raise ProcessLookupError
        if scope == "process":
            signal_process(child.pidfd, number)
        elif scope == "tree":
            self._signal_tree(child, number)
        elif child.adopted:
            signal_group(child.pidfd, child.pid, number)
        else:
            os.killpg(child.pid, number)  # not reaped, so the pid, and with it the group, is certainly its own

    def _signal_tree(self, child: Child, number: int) -> None:
        if has_ended(child.pidfd):
            raise ProcessLookupError
        reached: set[tree.Member] = set()
        refused: PermissionError | None = None
        for _ in range(_SIGNAL_PASSES):
            fresh = self._members(child) - reached
            if not fresh:
                break
            for member in fresh:
                try:
                    tree.signal_exactly(member, number)
                except PermissionError as exc:
                    refused = exc
            reached |= fresh
        if refused is not None:
            raise refused

    def _members(self, child: Child) -> set[tree.Member]:
        if self._groups is None or child.group is None or not contains(child.group, child.pid):
            return tree.find(child.pid, child.id)
        return tree.find_in_group(child.group)

    # ---- kills

    def kill(self, process_id: str) -> bool:
        """SIGKILL all that a process ever started, also when it has ended and is forgotten here.

        What is not gone at once is killed again, in rounds. To be asked again until it is gone: this does so no faster.

        Returns:
            Whether nothing of it is left.
        """
        first = process_id not in self._under_way
        is_gone = self._kill_once(process_id, freeze=not first)
        if first and not is_gone:
            self._under_way.add(process_id)
            self._kill_again(process_id, 1)
        return is_gone

    def _kill_again(self, process_id: str, round_number: int) -> None:
        def again() -> None:
            is_gone = self._kill_once(process_id, freeze=round_number > 1)
            if is_gone or round_number + 1 == len(_KILL_ROUNDS_S):
                self._under_way.discard(process_id)
            else:
                self._kill_again(process_id, round_number + 1)

        self._loop.later(_KILL_ROUNDS_S[round_number], again)

    def _kill_once(self, process_id: str, *, freeze: bool) -> bool:
        known = [child for child in self._children() if child.id == process_id]
        # The pid of an adopted one that has ended may be another's by now.
        live = next((c for c in known if not c.reaped and not (c.adopted and has_ended(c.pidfd))), None)
        group = next((child.group for child in reversed(known) if child.group is not None), None)
        # As root, a process may have left its group: then what it started may have, too.
        left_group = live is not None and group is not None and not contains(group, live.pid)
        in_group = self._groups is not None and self._groups.kill(process_id, group)
        if live is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.signal(live, signal.SIGKILL, "group")
        if in_group and not left_group:
            lives_on = live is not None and not has_ended(live.pidfd)
            return not lives_on and self._groups is not None and not self._groups.is_populated(process_id, group)
        leader = live.pid if live is not None else None
        # What forks while /proc is read can be missed once.
        return not tree.kill_tree(leader, process_id, freeze=freeze) and not tree.kill_tree(leader, process_id)

    def sweep(self, process_ids: Sequence[str], round_number: int = 0) -> None:
        """SIGKILL what is left of processes that another shim started and that nobody looks after."""
        if self._groups is not None:
            for process_id in process_ids:
                self._groups.kill(process_id, None)
        found = tree.kill_marked(process_ids)
        if found and round_number + 1 < len(_KILL_ROUNDS_S):

            def again() -> None:
                self._sweeps -= 1
                self.sweep(process_ids, round_number + 1)

            self._sweeps += 1
            self._loop.later(_KILL_ROUNDS_S[round_number + 1], again)

    def end_the_rest(self, reap: Callable[[], None]) -> None:
        """Leave nothing behind: SIGKILL what outlived its process, then reap it."""
        deadline = time.monotonic() + _KILL_ROUNDS_S[-1]
        while time.monotonic() < deadline:
            if self._groups is not None:
                self._groups.kill_all()
            found = tree.kill_descendants()
            reap()
            if found == 0 and (self._groups is None or self._groups.remove()):
                return
            time.sleep(_KILL_ROUNDS_S[1])
