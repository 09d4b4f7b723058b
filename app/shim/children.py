"""All processes: starting, reading, writing, ending and forgetting them."""

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from app.shim import cgroup
from app.shim.child import STDERR, STDOUT, Child, PendingInput, now_ms
from app.shim.linux import become_subreaper, pidfd_open
from app.shim.loop import BROKEN, IN, OUT, Loop
from app.shim.spawn import Command, SpawnOutcome, spawn
from app.shim.tree import kill_descendants, kill_tree

# While a daemon takes what is read, so much of one process is enough to keep it busy; the rest waits in the pipe.
READ_AHEAD_BYTES = 16 << 20
_END_IS_SEEN_S = 0.02
_KILL_ROUNDS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0)


class Listener(Protocol):
    """Who hears what happens to processes."""

    def on_readable(self, child: Child) -> None:
        """It has frames to send."""

    def on_exited(self, child: Child) -> None:
        """It has been reaped; `child.exited` says how it ended."""

    def on_stdin_closed(self, child: Child) -> None:
        """Its standard input is closed."""


class Children:
    """The table of processes, by slot. A slot is never used twice."""

    def __init__(self, loop: Loop, listener: Listener, state_dir: Path, open_files: int) -> None:
        self._loop = loop
        self._listener = listener
        self._by_slot: dict[int, Child] = {}
        self._unreaped: dict[int, Child] = {}
        self._slots = itertools.count(1)
        self._full: set[tuple[int, int]] = set()
        self.on_other_reaped: Callable[[Any], None] = lambda _info: None
        self._held_bytes = 0
        self.room_bytes = 64 << 20
        self.total_room_bytes = 512 << 20
        self._groups = cgroup.CgroupRoot.create(state_dir)
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

    # ---- start

    def start(self, record: dict[str, Any], command: Command, report: Callable[[Child, SpawnOutcome], None]) -> None:
        """Start a process; `report` is called once when it runs its program, or has failed to and is forgotten.

        Raises:
            OSError: no process can be made now; `report` is not called.
        """
        slot = next(self._slots)
        group = self._groups.make(record["id"]) if self._groups else None
        try:
            spawned = spawn(command, group=group, prepare=self._restore_own_settings)
        except OSError:
            if group is not None and self._groups is not None:
                self._groups.discard(group)
            raise
        child = Child(slot, record, group)
        child.pid, child.stdin = spawned.pid, spawned.stdin
        child.pidfd = pidfd_open(child.pid)
        if spawned.stdout is not None:
            child.outputs[STDOUT] = spawned.stdout
        if spawned.stderr is not None:
            child.outputs[STDERR] = spawned.stderr
        self._by_slot[slot] = child
        self._unreaped[child.pid] = child
        collected: list[bytes] = []

        def on_outcome(_events: int) -> None:
            if raw := os.read(spawned.outcome, 64):
                collected.append(raw)
                return
            self._loop.close(spawned.outcome)
            outcome = SpawnOutcome(b"".join(collected))
            self._started(child, outcome)
            report(child, outcome)
            self.reap()  # it may have ended already

        self._loop.watch(spawned.outcome, IN, on_outcome)

    def _restore_own_settings(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._open_files)

    def _started(self, child: Child, outcome: SpawnOutcome) -> None:
        if child.group is not None and self._groups is not None and not outcome.joined_cgroup:
            self._groups.discard(child.group)
            child.group = None
        if outcome.failed:
            os.waitid(os.P_PID, child.pid, os.WEXITED)  # it has reported and is at its _exit
            self.forget(child)
            return
        child.started = True
        self._loop.watch(child.pidfd, IN, lambda _events: self._reap_child(child))
        for stream, fd in child.outputs.items():
            self._watch_output(child, stream, fd)
        if child.stdin is not None:
            self._loop.watch(child.stdin, 0, lambda events: self._on_stdin(child, events))

    # ---- output

    def attach(self, child: Child, stdout_end: int, stderr_end: int) -> None:
        """Let its frames be sent from there on."""
        self._held_bytes -= child.attach(stdout_end, stderr_end)
        if not self._has_room(child):
            self._pause(child)
        self._resume()

    def acknowledge(self, child: Child, stdout_end: int, stderr_end: int) -> int:
        """Let go of what is stored, and return how many bytes that freed."""
        freed = child.acknowledge(stdout_end, stderr_end)
        self._held_bytes -= freed
        if self._full:
            self._resume()
        return freed

    def detach_all(self) -> None:
        """The daemon has gone."""
        for child in self:
            child.detach()
        self._resume()

    def _watch_output(self, child: Child, stream: int, fd: int) -> None:
        self._loop.watch(fd, IN, lambda _events: self._on_output(child, stream))

    def _on_output(self, child: Child, stream: int) -> None:
        count = child.read(stream)
        if count is None:
            return
        if count == 0:
            self._loop.close(child.outputs.pop(stream))
        else:
            self._held_bytes += count
            if not self._has_room(child):
                self._pause(child)
        self._listener.on_readable(child)

    def _has_room(self, child: Child) -> bool:
        room_bytes = min(self.room_bytes, READ_AHEAD_BYTES) if child.attached else self.room_bytes
        return child.held_bytes < room_bytes and self._held_bytes < self.total_room_bytes

    def _pause(self, child: Child) -> None:
        """Stop reading: the process will block when its pipes are full, and nothing is dropped."""
        for stream, fd in child.outputs.items():
            if (child.slot, stream) not in self._full:
                self._full.add((child.slot, stream))
                self._loop.unwatch(fd)

    def _resume(self) -> None:
        for slot, stream in list(self._full):
            child = self._by_slot.get(slot)
            if child is None or stream not in child.outputs:
                self._full.discard((slot, stream))
            elif self._has_room(child):
                self._full.discard((slot, stream))
                self._watch_output(child, stream, child.outputs[stream])

    # ---- standard input

    def write_stdin(self, child: Child, pending: PendingInput) -> None:
        """Write as the pipe takes it; `pending.answer` tells the outcome."""
        if child.reaped:
            pending.answer("ended")
        elif child.stdin is None or child.close_stdin_after_input:
            pending.answer("closed")
        else:
            child.input.append(pending)
            self._advance_stdin(child)

    def close_stdin(self, child: Child) -> None:
        """Close it behind what is pending."""
        if child.stdin is not None:
            child.close_stdin_after_input = True
            self._advance_stdin(child)

    def _on_stdin(self, child: Child, events: int) -> None:
        if events & BROKEN:
            self._on_stdin_broken(child)
        else:
            self._advance_stdin(child)

    def _advance_stdin(self, child: Child) -> None:
        if child.stdin is None or not self._loop.watches(child.stdin):
            return
        try:
            more = child.write_stdin()
        except BrokenPipeError:
            self._on_stdin_broken(child)
            return
        if not more and child.close_stdin_after_input:
            self._end_stdin(child, "closed")
        else:
            self._loop.modify(child.stdin, OUT if more else 0)

    def _on_stdin_broken(self, child: Child) -> None:
        """Nobody reads it any more. A process that ends closes its descriptors just before its end can be seen."""
        if child.stdin is not None:
            self._loop.unwatch(child.stdin)
            self._loop.later(_END_IS_SEEN_S, lambda: self._end_stdin(child, "closed"))

    def _end_stdin(self, child: Child, why: str) -> None:
        if child.stdin is None:
            return
        self._loop.close(child.stdin)
        child.stdin = None
        while child.input:
            child.input.popleft().answer(why)
        self._listener.on_stdin_closed(child)

    # ---- end

    def signal_group(self, child: Child, number: int) -> None:
        """Signal its process group. Not reaped, so the pid, and with it the group, is certainly its own.

        Raises:
            ProcessLookupError: it has been reaped.
            PermissionError: the system refuses.
        """
        if child.reaped:
            raise ProcessLookupError
        os.killpg(child.pid, number)

    def kill(self, process_id: str, round_number: int = 0) -> None:
        """SIGKILL all that a process ever started, also when it has ended and is forgotten here."""
        in_group = self._groups is not None and self._groups.kill(process_id)
        child = next((child for child in self._unreaped.values() if child.id == process_id), None)
        leader = child.pid if child is not None else None
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
        if in_group and (leader is None or round_number == 0):
            if leader is not None:  # it may have left its group: then it is still there at the second look
                self._loop.later(_END_IS_SEEN_S, lambda: self.kill(process_id, 1))
            return
        found = kill_tree(leader, process_id)
        if (found or round_number == 0) and round_number + 1 < len(_KILL_ROUNDS_S):
            self._loop.later(_KILL_ROUNDS_S[round_number + 1], lambda: self.kill(process_id, round_number + 1))

    def reap(self) -> None:
        """Reap what has ended: our children by their own handler, adopted orphans here.

        This is the only reaper there is, so looking (WNOWAIT) at any child and then reaping that very one
        takes nobody's exit status.
        """
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
                return  # at its exec; `start` comes back here when its outcome is known

    def _reap_child(self, child: Child) -> None:
        info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if info is None:
            return
        child.reaped = True
        key = "code" if info.si_code == os.CLD_EXITED else "signal"
        child.exited = {key: info.si_status, "ts_ms": now_ms()}
        del self._unreaped[child.pid]
        self._loop.close(child.pidfd)
        child.pidfd = -1
        self._end_stdin(child, "ended")
        self._listener.on_exited(child)

    def forget(self, child: Child) -> None:
        """Let go of a process and everything that belongs to it."""
        self._unreaped.pop(child.pid, None)
        self._end_stdin(child, "ended")
        for fd in child.outputs.values():
            self._loop.close(fd)
        child.outputs.clear()
        if child.pidfd >= 0:
            self._loop.close(child.pidfd)
            child.pidfd = -1
        self._held_bytes -= child.held_bytes
        child.unsent.clear()
        child.attached = False
        if child.group is not None and self._groups is not None:
            self._groups.discard(child.group)
        self._by_slot.pop(child.slot, None)
        self._resume()

    def end_the_rest(self) -> None:
        """Leave nothing behind: SIGKILL what outlived its process, then reap it."""
        deadline = time.monotonic() + _KILL_ROUNDS_S[-1]
        while time.monotonic() < deadline:
            if self._groups is not None:
                self._groups.kill_all()
            found = kill_descendants()
            self.reap()
            if found == 0 and (self._groups is None or self._groups.remove()):
                return
            time.sleep(_KILL_ROUNDS_S[1])
