"""All processes: starting, adopting, ending and forgetting them."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from outlast.failpoints import failpoint
from outlast.linux.process import become_subreaper, exit_status
from outlast.shim.event_loop import IN, Loop
from outlast.shim.kill import cgroup
from outlast.shim.kill.killer import Killer
from outlast.shim.launch.forkserver import ForkServer
from outlast.shim.launch.limits import bound_group, oom_kills
from outlast.shim.launch.spawn import SpawnOutcome, Start, spawn
from outlast.shim.state.buffer import Segment, StreamBuffer, memory_segments
from outlast.shim.state.child import STDERR, STDOUT, BufferUsage, Child, PendingInput, now_ms
from outlast.shim.watch.deadlines import Deadlines, is_timed_out
from outlast.shim.watch.output import OutputReader
from outlast.shim.watch.stdin import StdinWriter
from outlast.wire.contract import Command

# How often an end whose status nobody tells yet is looked at again, and how often at most.
_STATUS_LOOK_S = 0.05
_STATUS_LOOKS = 100


class Listener(Protocol):
    """Who hears what happens to processes."""

    def on_started(self, child: Child) -> None:
        """It runs its program, or `child.failed` says why not."""

    def on_readable(self, child: Child) -> None:
        """It has frames to send."""

    def on_exited(self, child: Child) -> None:
        """It has ended; `child.exited` says how."""

    def on_stdin_closed(self, child: Child) -> None:
        """Its standard input is closed."""

    def on_stdin_answer(self, pending: PendingInput, error: str | None) -> None:
        """What was to be written to a standard input is in (None), or why it can't be."""


class WantedStart(NamedTuple):
    """A process that is to be started.

    Attributes:
        record: the daemon's own description of it.
        command: what to start.
        begins_at: offsets of the first bytes of its standard output and error, which continue an earlier run's.
    """

    record: dict[str, Any]
    command: Command
    begins_at: Sequence[int] = (0, 0)


class _Prepared(NamedTuple):
    child: Child
    start: Start
    segments: Mapping[int, Segment]


class Children:
    """The table of processes, by slot. A slot is never used twice by one shim.

    Attributes:
        killing: signals them, and ends all that they started.
        intake: reads what they print.
        stdin: writes to their standard inputs.
    """

    def __init__(self, loop: Loop, listener: Listener, state_dir: Path, open_files: int) -> None:
        self._loop = loop
        self._listener = listener
        self._by_slot: dict[int, Child] = {}
        self._unreaped: dict[int, Child] = {}
        self.next_slot = 1
        self.room = BufferUsage()
        self.intake = OutputReader(loop, self.room, state_dir, listener.on_readable)
        self.stdin = StdinWriter(loop, listener.on_stdin_answer, listener.on_stdin_closed)
        self.on_other_reaped: Callable[[Any], None] = lambda _info: None
        self._reaping_waits = False
        self._fork_server = ForkServer(state_dir)
        self._groups = cgroup.CgroupRoot.create(state_dir)
        self.killing = Killer(loop, lambda: iter(self), self._groups)
        self._timeouts = Deadlines(loop, self.killing.kill)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._open_files = (open_files, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        become_subreaper()
        loop.watch_signals(self.reap)

    def __len__(self) -> int:
        return len(self._by_slot)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_slot.values())

    def get(self, slot: int) -> Child | None:
        """Return the process in a slot, if it is not forgotten."""
        return self._by_slot.get(slot)

    def _take_slot(self) -> int:
        slot = self.next_slot
        self.next_slot += 1
        return slot

    # ---- start

    def start(self, wanted: Sequence[WantedStart]) -> list[Child | OSError]:
        """Fork processes, which then wait at their gates. For each that can't be, return why.

        A `LimitRefused` says that a limit can't be had here, any other error that no process can be made now.
        """
        prepared = [self._prepare(each) for each in wanted]
        spawn([each.start for each in prepared if not isinstance(each, OSError)], self._fork_server)
        return [each if isinstance(each, OSError) else self._take(each) for each in prepared]

    def _prepare(self, wanted: WantedStart) -> _Prepared | OSError:
        """Make all that a process needs before it is forked."""
        group = self._groups.make(wanted.record["id"]) if self._groups else None
        child = Child(self._take_slot(), wanted.record, group, self.room)
        begins_at = dict(zip((STDOUT, STDERR), wanted.begins_at, strict=True))
        captured = {STDOUT: wanted.command.stdout, STDERR: wanted.command.stderr}
        segments: dict[int, Segment] = {}
        try:
            bound_group(group, wanted.command.limits)
            segments = memory_segments({stream: begins_at[stream] for stream in captured if captured[stream]})
            start = Start(wanted.command, group=group, open_files=self._open_files)
        except OSError as exc:
            self._call_off(child, segments)
            return exc
        child.timeout_ms = wanted.command.timeout_ms
        return _Prepared(child, start, segments)

    def _take(self, prepared: _Prepared) -> Child | OSError:
        """Look after a process that is forked."""
        child, start, segments = prepared
        if start.refused is not None:
            self._call_off(child, segments)
            return start.refused
        child.pid, child.pidfd, child.stdin = start.pid, start.pidfd, start.stdin
        child.gate, child.outcome, child.report = start.gate, start.outcome, start.report
        pipes = {STDOUT: start.stdout, STDERR: start.stderr}
        child.streams = {stream: StreamBuffer(pipes[stream], [segment]) for stream, segment in segments.items()}
        failpoint("shim-forked")
        self._by_slot[child.slot] = child
        self._unreaped[child.pid] = child
        self._watch_outcome(child)
        return child

    def _call_off(self, child: Child, segments: Mapping[int, Segment]) -> None:
        for segment in segments.values():
            segment.close()
        if child.group is not None and self._groups is not None:
            self._groups.discard(child.group)

    def open_gate(self, child: Child) -> None:
        """Let a process run its program: it is recorded, and the daemon has what it needs if this shim dies."""
        if child.gate < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # it was killed there
            os.write(child.gate, b"g")
        failpoint("shim-opened")
        self._close_gate(child)

    def _close_gate(self, child: Child) -> None:
        if child.gate >= 0:
            os.close(child.gate)
            child.gate = -1

    def _watch_outcome(self, child: Child) -> None:
        self._loop.watch(child.outcome, IN, lambda _events: self._on_outcome(child))

    def _on_outcome(self, child: Child) -> None:
        """It runs its program, or has failed to: which of the two stays known until it is forgotten."""
        outcome = SpawnOutcome(child.report)
        self._forget_outcome(child)
        self._close_gate(child)
        if child.group is not None and self._groups is not None and not outcome.joined_cgroup:
            self._groups.discard(child.group)
            child.group = None
        if outcome.failed:
            if not child.adopted:
                os.waitid(os.P_PID, child.pid, os.WEXITED)  # it has reported and is at its _exit
            child.failed = {"stage": outcome.stage, "errno": outcome.errno}
            child.reaped = True
            self._unreaped.pop(child.pid, None)
            self._close_pidfd(child)
        else:
            child.started = True
            self._watch_running(child)
        self._listener.on_started(child)
        if self._reaping_waits:
            self.reap()

    def _forget_outcome(self, child: Child) -> None:
        if child.outcome >= 0:
            self._loop.close(child.outcome)
            os.close(child.report)
            child.outcome = child.report = -1

    def adopt(self, make: Callable[[int], Child]) -> Child:
        """Take over a process that another shim started. `make` is given the slot."""
        child = make(self._take_slot())
        child.adopted = True
        self.put(child)
        return child

    def put(self, child: Child) -> None:
        """Take in a process that runs (or has run) already."""
        if child.group is not None and self._groups is not None:
            self._groups.keep(child.group)
        self._by_slot[child.slot] = child
        if not child.reaped and not child.adopted:
            self._unreaped[child.pid] = child
        if child.outcome >= 0:
            self._watch_outcome(child)
        elif child.failed is None:
            self._watch_running(child)

    def _watch_running(self, child: Child) -> None:
        """Begin to hear of its end, to read what it prints and to write what it is given."""
        if not child.reaped:
            on_end = self._look_at_adopted if child.adopted else self._reap_child
            self._loop.watch(child.pidfd, IN, lambda _events: on_end(child))
        self.intake.watch(child)
        self.stdin.watch(child)
        self._timeouts.watch(child)

    # ---- end

    def reap(self) -> None:
        """Reap what has ended: our children by their own handler, adopted orphans here.

        This is the only reaper there is, so looking (WNOWAIT) at any child and then reaping that very one
        takes nobody's exit status.
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
            if child is None:
                self.on_other_reaped(os.waitid(os.P_PID, seen.si_pid, os.WEXITED))
                if self._groups is not None:
                    self._groups.sweep()
            elif child.started:
                self._reap_child(child)
            else:
                self._reaping_waits = True  # at its exec; `_on_outcome` comes back here when that is known
                return

    def _reap_child(self, child: Child) -> None:
        info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if info is None:
            return
        failpoint("shim-reaped")
        self._ended(child, {"code" if info.si_code == os.CLD_EXITED else "signal": info.si_status})

    def _look_at_adopted(self, child: Child, look: int = 1) -> None:
        """An adopted process has ended, and somebody else reaps it: the kernel tells how, now or a little later."""
        status = exit_status(child.pidfd, child.pid)
        if status is None and look < _STATUS_LOOKS:
            if self._loop.watches(child.pidfd):
                self._loop.unwatch(child.pidfd)
            self._loop.later(_STATUS_LOOK_S, lambda: self._look_at_adopted(child, look + 1))
            return
        if status is None:
            self._ended(child, {})  # a kernel that keeps no exit status for strangers: nothing is guessed
        elif os.WIFSIGNALED(status):
            self._ended(child, {"signal": os.WTERMSIG(status)})
        else:
            self._ended(child, {"code": os.WEXITSTATUS(status)})

    def _ended(self, child: Child, how: dict[str, int]) -> None:
        if child.reaped:
            return
        child.reaped = True
        timed_out = is_timed_out(child, how)
        oom_killed = not timed_out and how.get("signal") == signal.SIGKILL and oom_kills(child.group) > 0
        child.exited = {**how, "ts_ms": now_ms(), "timed_out": timed_out, "oom_killed": oom_killed}
        self._timeouts.forget(child)
        self._unreaped.pop(child.pid, None)
        self._close_pidfd(child)
        self.stdin.end(child, "ended")
        self._listener.on_exited(child)

    def _close_pidfd(self, child: Child) -> None:
        if child.pidfd >= 0:
            self._loop.close(child.pidfd)
            child.pidfd = -1

    def forget(self, child: Child) -> None:
        """Let go of a process and everything that belongs to it."""
        self._unreaped.pop(child.pid, None)
        child.reaped = True
        self._close_gate(child)
        self._forget_outcome(child)
        self._timeouts.forget(child)
        self.stdin.end(child, "ended")
        self.intake.forget(child)
        self._close_pidfd(child)
        if child.group is not None and self._groups is not None:
            self._groups.discard(child.group)
        self._by_slot.pop(child.slot, None)

    def end_the_rest(self) -> None:
        """Leave nothing behind."""
        self.killing.end_the_rest(self.reap)
