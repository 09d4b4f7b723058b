"""The shim's processes: starting, adopting, reaping and forgetting them."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from outlast.failpoints import failpoint
from outlast.linux.proc import boot_ticks
from outlast.linux.process import become_subreaper, exit_status
from outlast.shim.event_loop import IN, Loop
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.kill.killer import Killer
from outlast.shim.launch.forkserver import ForkServer
from outlast.shim.launch.limits import limit_group, oom_kills
from outlast.shim.launch.spawn import SpawnOutcome, Start, spawn
from outlast.shim.state.buffer import Segment, StreamBuffer, memory_segments
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.frames import STDERR, STDOUT, now_ms
from outlast.shim.state.quota import BufferUsage
from outlast.shim.watch.deadlines import Deadlines, is_timed_out
from outlast.shim.watch.output import OutputReader
from outlast.shim.watch.stdin import StdinWriter
from outlast.wire.contract import Command

_STATUS_RETRY_S = 0.05
_MAX_STATUS_TRIES = 100
"""How often, and how many times, the kernel is asked for the exit status of an adopted process that has ended."""


class ChildObserver(Protocol):
    """An observer of processes."""

    def on_started(self, child: Child) -> None:
        """Hear that a process runs its program, or that `child.failed` says why not."""

    def on_readable(self, child: Child) -> None:
        """Hear that a process has frames to send."""

    def on_exited(self, child: Child) -> None:
        """Hear that a process has ended, as `child.exited` says."""

    def on_stdin_closed(self, child: Child) -> None:
        """Hear that a standard input is closed."""

    def on_stdin_answer(self, pending: PendingInput, error: str | None) -> None:
        """Hear that input is written (None), or why it cannot be."""


class StartRequest(NamedTuple):
    """A process to start.

    Attributes:
        record: the daemon's own description of it.
        command: the program.
        begins_at: offsets of the first bytes of its standard output and error, which continue those of an earlier run.
    """

    record: dict[str, Any]
    command: Command
    begins_at: Sequence[int] = (0, 0)


class _PreparedStart(NamedTuple):
    child: Child
    start: Start
    segments: Mapping[int, Segment]


class Children:
    """The table of processes, by slot. A shim never uses a slot twice.

    Attributes:
        next_slot: slot of the next process.
        usage: what is held of all processes together.
        killer: signals processes and kills trees.
        output_reader: reads what processes print.
        stdin_writer: writes to their standard inputs.
        on_other_reaped: called with what `os.waitid` returned for a reaped child that is not in the table.
    """

    def __init__(self, loop: Loop, observer: ChildObserver, state_dir: Path, open_files: int, secret: str) -> None:
        """`open_files` is the soft limit on open files that processes get, `secret` that of the folder's identity."""
        self._loop = loop
        self._observer = observer
        self._by_slot: dict[int, Child] = {}
        self._unreaped: dict[int, Child] = {}
        self.next_slot = 1
        self.usage = BufferUsage()
        self.output_reader = OutputReader(loop, self.usage, state_dir, observer.on_readable)
        self.stdin_writer = StdinWriter(loop, observer.on_stdin_answer, observer.on_stdin_closed)
        self.on_other_reaped: Callable[[Any], None] = lambda _info: None
        self._reaping_waits = False
        self._fork_server = ForkServer(state_dir)
        self._groups = CgroupRoot.create(state_dir)
        self.killer = Killer(loop, lambda: iter(self), self._groups, secret)
        self._deadlines = Deadlines(loop, self.killer.kill)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._open_files = (open_files, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
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

    def start(self, requests: Sequence[StartRequest]) -> list[Child | OSError]:
        """Fork processes, which then wait at their gates. Return each, or the error that prevented its fork.

        A `LimitRefused` says that a limit cannot be set here, any other error that no process can be made now.
        """
        prepared = [self._prepare(request) for request in requests]
        spawn([each.start for each in prepared if not isinstance(each, OSError)], self._fork_server)
        return [each if isinstance(each, OSError) else self._insert_forked(each) for each in prepared]

    def _prepare(self, request: StartRequest) -> _PreparedStart | OSError:
        """Make all that a process needs before it is forked."""
        group = self._groups.create_group(request.record["id"]) if self._groups else None
        child = Child(self._allocate_slot(), request.record, group, self.usage)
        child.since_ticks = boot_ticks()
        begins_at = dict(zip((STDOUT, STDERR), request.begins_at, strict=True))
        captured = {STDOUT: request.command.stdout, STDERR: request.command.stderr}
        segments: dict[int, Segment] = {}
        try:
            limit_group(group, request.command.limits)
            segments = memory_segments({stream: begins_at[stream] for stream in captured if captured[stream]})
            mark = self.killer.mark_of(child.id)
            start = Start(request.command, group=group, open_files=self._open_files, mark=mark)
        except OSError as exc:
            self._discard_prepared(child, segments)
            return exc
        child.timeout_ms = request.command.timeout_ms
        return _PreparedStart(child, start, segments)

    def _insert_forked(self, prepared: _PreparedStart) -> Child | OSError:
        """Put a process that was forked into the table; or return why it was not forked."""
        child, start, segments = prepared
        if start.refused is not None:
            self._discard_prepared(child, segments)
            return start.refused
        child.pid, child.pidfd, child.stdin = start.pid, start.pidfd, start.stdin
        child.gate, child.outcome, child.report = start.gate, start.outcome, start.report
        pipes = {STDOUT: start.stdout, STDERR: start.stderr}
        child.streams = {stream: StreamBuffer(pipes[stream], [segment]) for stream, segment in segments.items()}
        failpoint("shim-forked")
        self._by_slot[child.slot] = child
        self._unreaped[child.pid] = child
        self._wait_for_outcome(child)
        return child

    def _discard_prepared(self, child: Child, segments: Mapping[int, Segment]) -> None:
        for segment in segments.values():
            segment.close()
        if child.group is not None and self._groups is not None:
            self._groups.discard_group(child.group)

    def open_gate(self, child: Child) -> None:
        """Let a process run its program: it is recorded, and the daemon has all it needs if this shim dies."""
        if child.gate < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # killed at its gate
            os.write(child.gate, b"g")
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
        if self._reaping_waits:
            self.reap()

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
            on_end = self._on_adopted_ended if child.adopted else self._reap_child
            self._loop.add_handler(child.pidfd, IN, lambda _events: on_end(child))
        self.output_reader.start_reading(child)
        self.stdin_writer.start_writing(child)
        self._deadlines.schedule(child)

    # ---- end

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
            if child is None:
                self.on_other_reaped(os.waitid(os.P_PID, seen.si_pid, os.WEXITED))
                if self._groups is not None:
                    self._groups.remove_lingering()
            elif child.started:
                self._reap_child(child)
            else:
                self._reaping_waits = True  # `_on_outcome` reaps again when the outcome of its start is known
                return

    def _reap_child(self, child: Child) -> None:
        info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if info is None:
            return
        failpoint("shim-reaped")
        self._on_ended(child, {"code" if info.si_code == os.CLD_EXITED else "signal": info.si_status})

    def _on_adopted_ended(self, child: Child, tries: int = 1) -> None:
        """Find out how an adopted process ended: another process reaps it, and the kernel tells about then."""
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
        self._observer.on_exited(child)

    def _close_pidfd(self, child: Child) -> None:
        if child.pidfd >= 0:
            self._loop.close_fd(child.pidfd)
            child.pidfd = -1

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
