"""The shim's processes: starting, adopting, reaping and forgetting them."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from outlast.failpoints import failpoint
from outlast.linux import descriptors
from outlast.linux.proc import boot_ticks
from outlast.linux.process import become_subreaper, exit_status, has_ended, is_pollable
from outlast.shim.event_loop import IN, Loop
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.kill.killer import Killer
from outlast.shim.launch.limits import oom_kills
from outlast.shim.launch.spawn import SpawnOutcome
from outlast.shim.starts import Starts
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.frames import now_ms
from outlast.shim.state.quota import BufferUsage
from outlast.shim.watch.deadlines import Deadlines, is_timed_out
from outlast.shim.watch.output import OutputObserver, OutputReader
from outlast.shim.watch.stdin import StdinWriter
from outlast.wire.contract import GATE_BYTE

_STATUS_RETRY_S = 0.05
_MAX_STATUS_TRIES = 100
"""How often, and how many times, the kernel is asked for the exit status of an adopted process that has ended."""
_LOOK_AGAIN_S = 0.05
"""How often an adopted process is looked at where no poll tells of its end."""


class ChildObserver(OutputObserver, Protocol):
    """An observer of processes."""

    def on_started(self, child: Child) -> None:
        """Hear that a process runs its program, or that `child.failed` says why not."""

    def on_exited(self, child: Child) -> None:
        """Hear that a process has ended, as `child.exited` says."""

    def on_stdin_closed(self, child: Child) -> None:
        """Hear that a standard input is closed."""

    def on_stdin_answer(self, pending: PendingInput, error: str | None) -> None:
        """Hear that input is written (None), or why it cannot be."""


class Children:
    """The table of processes, by slot. A shim never uses a slot twice.

    Attributes:
        next_slot: slot of the next process.
        usage: what is held of all processes together.
        starts: the processes that are being forked.
        killer: signals processes and kills trees.
        output_reader: reads what processes print.
        stdin_writer: writes to their standard inputs.
        on_other_reaped: called with what `os.waitid` returned for a reaped child that is not in the table.
    """

    def __init__(
        self, loop: Loop, observer: ChildObserver, state_dir: Path, open_files: int, *, folder: Path, secret: str
    ) -> None:
        """Make an empty table.

        Args:
            loop: watches the processes.
            observer: hears about them.
            state_dir: the state folder, as the list of processes shows it.
            open_files: the soft limit on open files that processes get.
            folder: the state folder, also when it has been moved.
            secret: that of the folder's identity.
        """
        self._loop = loop
        self._observer = observer
        self._by_slot: dict[int, Child] = {}
        self._unreaped: dict[int, Child] = {}
        self.next_slot = 1
        self.usage = BufferUsage()
        self.output_reader = OutputReader(loop, self.usage, folder, observer)
        self.stdin_writer = StdinWriter(loop, observer.on_stdin_answer, observer.on_stdin_closed)
        self.on_other_reaped: Callable[[Any], None] = lambda _info: None
        self._reaping_waits = False
        self._groups = CgroupRoot.create(folder)
        self.killer = Killer(loop, lambda: iter(self), self._groups, secret)
        self._deadlines = Deadlines(loop, self.killer.kill)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.starts = Starts(
            loop,
            state_dir,
            open_files=(open_files, hard),
            groups=self._groups,
            mark_of=self.killer.mark_of,
            make_child=self._make_child,
            on_forked=self._insert_forked,
            on_settled=self._reap_what_waits,
        )
        descriptors.raise_limit()
        become_subreaper()
        loop.handle_signals(self.reap)

    def __len__(self) -> int:
        return len(self._by_slot)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_slot.values())

    def get(self, slot: int) -> Child | None:
        """Return the process in a slot. None: it is forgotten."""
        return self._by_slot.get(slot)

    def _allocate_slot(self) -> int:
        slot = self.next_slot
        self.next_slot += 1
        return slot

    # ---- start

    def _make_child(self, record: dict[str, Any], group: str | None) -> Child:
        child = Child(self._allocate_slot(), record, group, self.usage)
        child.since_ticks = boot_ticks()
        return child

    def _insert_forked(self, child: Child) -> None:
        """Put a process that waits at its gate into the table."""
        self._by_slot[child.slot] = child
        self._unreaped[child.pid] = child
        self._wait_for_outcome(child)

    def _reap_what_waits(self) -> None:
        if self._reaping_waits:
            self.reap()

    def open_gate(self, child: Child) -> None:
        """Let a process run its program: it is recorded, and the daemon has all it needs if this shim dies."""
        if child.gate < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # killed at its gate
            os.write(child.gate, GATE_BYTE)
        failpoint("shim-opened")
        self._close_gate(child)

    def _close_gate(self, child: Child) -> None:
        if child.gate >= 0:
            os.close(child.gate)
            child.gate = -1

    def _wait_for_outcome(self, child: Child) -> None:
        self._loop.add_handler(child.outcome, IN, lambda _events: self._on_outcome(child))

    def _on_outcome(self, child: Child) -> None:
        """Note whether a process runs its program or has failed to. That stays known until it is forgotten."""
        outcome = SpawnOutcome(child.report)
        self._close_outcome(child)
        self._close_gate(child)
        if child.group is not None and self._groups is not None and not outcome.joined_cgroup:
            self._groups.discard_group(child.group)
            child.group = None
        if outcome.failed:
            if not child.adopted:
                os.waitid(os.P_PID, child.pid, os.WEXITED)  # the child has reported and is about to exit
            child.failed = {"stage": outcome.stage, "errno": outcome.errno}
            child.reaped = True
            self._unreaped.pop(child.pid, None)
            self._close_pidfd(child)
        else:
            child.started = True
            self._watch_running(child)
        self._observer.on_started(child)
        self._reap_what_waits()

    def _close_outcome(self, child: Child) -> None:
        if child.outcome >= 0:
            self._loop.close_fd(child.outcome)
            os.close(child.report)
            child.outcome = child.report = -1

    def adopt(self, make: Callable[[int], Child]) -> Child:
        """Take over a process that another shim started. `make` is called with its slot."""
        child = make(self._allocate_slot())
        child.adopted = True
        self.insert(child)
        return child

    def insert(self, child: Child) -> None:
        """Put a process that an earlier shim, or program in this process, started into the table."""
        if child.group is not None and self._groups is not None:
            self._groups.retain_group(child.group)
        self._by_slot[child.slot] = child
        if not child.reaped and not child.adopted:
            self._unreaped[child.pid] = child
        if child.outcome >= 0:
            self._wait_for_outcome(child)
        elif child.failed is None:
            self._watch_running(child)

    def _watch_running(self, child: Child) -> None:
        """Wait for a process's end, read its output and write its input."""
        if not child.reaped:
            self._wait_for_end(child)
        self.output_reader.start_reading(child)
        self.stdin_writer.start_writing(child)
        self._deadlines.schedule(child)

    # ---- end

    def _wait_for_end(self, child: Child) -> None:
        if is_pollable(child.pidfd):
            on_end = self._on_adopted_ended if child.adopted else self._reap_child
            self._loop.add_handler(child.pidfd, IN, lambda _events: on_end(child))
        elif child.adopted:
            self._look_for_end(child)
        else:
            self._loop.call_later(0, self.reap)  # from now on SIGCHLD tells; it may have come before

    def _look_for_end(self, child: Child) -> None:
        """Wait for the end of an adopted process, of which neither a poll nor a signal tells."""
        if child.reaped:
            return
        if has_ended(child.pidfd):
            self._on_adopted_ended(child)
        else:
            self._loop.call_later(_LOOK_AGAIN_S, lambda: self._look_for_end(child))

    def reap(self) -> None:
        """Reap what has ended: processes by their own handler, orphans here.

        Nothing else in this process reaps. So the child that `os.waitid` shows (WNOWAIT) is still there when it is
        reaped by its pid, and no exit status is lost.
        """
        self._reaping_waits = False
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None:
                return
            child = self._unreaped.get(seen.si_pid)
            if child is None and self.starts.is_forking:
                self._reaping_waits = True  # it may be one of them: once reaped, another process may get its pid
                return
            if child is None:
                self.on_other_reaped(os.waitid(os.P_PID, seen.si_pid, os.WEXITED))
                if self._groups is not None:
                    self._groups.remove_lingering()
            elif child.started:
                self._reap_child(child)
            else:
                self._reaping_waits = True  # until the outcome of its start is known
                return

    def _reap_child(self, child: Child) -> None:
        info = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG)  # not reaped, so its pid is its own
        if info is None:
            return
        failpoint("shim-reaped")
        self._on_ended(child, {"code" if info.si_code == os.CLD_EXITED else "signal": info.si_status})

    def _on_adopted_ended(self, child: Child, tries: int = 1) -> None:
        """Find out how an adopted process ended: another process reaps it, and the kernel tells about then."""
        if child.reaped:  # forgotten meanwhile
            return
        status = exit_status(child.pidfd, child.pid)
        if status is None and tries < _MAX_STATUS_TRIES:
            if self._loop.has_handler(child.pidfd):
                self._loop.remove_handler(child.pidfd)
            self._loop.call_later(_STATUS_RETRY_S, lambda: self._on_adopted_ended(child, tries + 1))
            return
        if status is None:
            self._on_ended(child, {})  # this kernel does not tell: the process is lost
        elif os.WIFSIGNALED(status):
            self._on_ended(child, {"signal": os.WTERMSIG(status)})
        else:
            self._on_ended(child, {"code": os.WEXITSTATUS(status)})

    def _on_ended(self, child: Child, how: dict[str, int]) -> None:
        if child.reaped:
            return
        child.reaped = True
        timed_out = is_timed_out(child, how)
        oom_killed = not timed_out and how.get("signal") == signal.SIGKILL and oom_kills(child.group) > 0
        child.exited = {**how, "ts_ms": now_ms(), "timed_out": timed_out, "oom_killed": oom_killed}
        self._deadlines.cancel(child)
        self._unreaped.pop(child.pid, None)
        self._close_pidfd(child)
        self.stdin_writer.close_now(child, "ended")
        if child.stop_by_ms is not None:  # a stop is for the whole tree
            self.killer.kill(child.id)
        self._observer.on_exited(child)

    def _close_pidfd(self, child: Child) -> None:
        if child.pidfd >= 0:
            self._loop.close_fd(child.pidfd)
            child.pidfd = -1

    def stop_within(self, child: Child, grace_ms: int) -> None:
        """Kill the tree of a process that was told to end as soon as it has ended, or when `grace_ms` is over."""
        self._deadlines.stop_within(child, grace_ms)

    def forget(self, child: Child) -> None:
        """Remove a process from the table, and close and discard all that belongs to it."""
        self._unreaped.pop(child.pid, None)
        child.reaped = True
        self._close_gate(child)
        self._close_outcome(child)
        self._deadlines.cancel(child)
        self.stdin_writer.close_now(child, "ended")
        self.output_reader.discard(child)
        self._close_pidfd(child)
        if child.group is not None and self._groups is not None:
            self._groups.discard_group(child.group)
        self._by_slot.pop(child.slot, None)

    def kill_remaining(self) -> None:
        """Kill and reap all descendants of this process, before it ends."""
        self.killer.kill_remaining(self.reap)
