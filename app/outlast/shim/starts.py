"""The starts that were requested: forked in batches, in order, while the loop goes on."""

import errno
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from outlast.failpoints import failpoint
from outlast.linux import descriptors
from outlast.shim.event_loop import Loop
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.launch.forkserver import UNSUPPORTED, Answers, ForkServer
from outlast.shim.launch.limits import limit_group
from outlast.shim.launch.spawn import Start, fork_here
from outlast.shim.state.buffer import Segment, StreamBuffer, memory_segments
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDERR, STDOUT
from outlast.wire.contract import Command

_MAX_AT_ONCE = 16
"""Maximum number of starts that are forked together: more gain nothing, and each holds descriptors until all are."""
_DESCRIPTORS_OF_ONE = 16
"""Maximum number of descriptors that a start takes while it is made: five pipes, three files, a pidfd, and two spare.

At most six stay.
"""
_HELPERS = 2
"""Number of fork helpers that are tried for a batch, before the shim forks by itself."""

Answer = Callable[[Child | OSError], None]
"""Hears of a process that it waits at its gate; or why none was made.

A `LimitRefused` says that a limit cannot be set here, any other error that no process can be made now.
"""


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


class _Attempt(NamedTuple):
    """A start that is being forked, with all that was made for it."""

    command: Command
    answer: Answer
    child: Child
    start: Start
    segments: Mapping[int, Segment]


class Starts:
    """The queue of starts, and the batch that is being forked now."""

    def __init__(
        self,
        loop: Loop,
        state_dir: Path,
        *,
        open_files: tuple[int, int],
        groups: CgroupRoot | None,
        mark_of: Callable[[str], int],
        make_child: Callable[[dict[str, Any], str | None], Child],
        on_forked: Callable[[Child], None],
        on_settled: Callable[[], None],
    ) -> None:
        """Make an empty queue.

        Args:
            loop: the event loop.
            state_dir: the state folder.
            open_files: the soft and hard limit on open files that processes get.
            groups: makes cgroups, if that is possible here.
            mark_of: returns the mark of a run, by its key.
            make_child: makes an entry in the table from a record and a cgroup.
            on_forked: called with each process that waits at its gate, before its `Answer`.
            on_settled: called when every process that has been forked is known.
        """
        self._server = ForkServer(loop, state_dir)
        self._open_files = open_files
        self._groups = groups
        self._mark_of = mark_of
        self._make_child = make_child
        self._on_forked = on_forked
        self._on_settled = on_settled
        self._waiting: deque[tuple[StartRequest, Answer]] = deque()
        self._batch: list[_Attempt] = []
        self._helpers_tried = 0

    @property
    def is_forking(self) -> bool:
        """Whether this process may have children whose pids it does not know yet."""
        return bool(self._batch)

    def add(self, request: StartRequest, answer: Answer) -> None:
        """Queue a start. `fork_next` begins it."""
        self._waiting.append((request, answer))

    def drop_waiting(self) -> None:
        """Forget the starts that are not being forked yet, and answer none of them."""
        self._waiting.clear()

    def fork_next(self) -> None:
        """Fork what is queued, unless a batch is on its way already."""
        while self._waiting and not self._batch:
            room = (descriptors.free() - descriptors.reserve()) // _DESCRIPTORS_OF_ONE
            if room < 1:
                self._waiting.popleft()[1](OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                continue
            for _ in range(min(len(self._waiting), _MAX_AT_ONCE, room)):
                self._prepare(*self._waiting.popleft())
            self._helpers_tried = 0
            self._fork()

    def _prepare(self, request: StartRequest, answer: Answer) -> None:
        """Make all that a process needs, and put it into the batch."""
        group = self._groups.create_group(request.record["id"]) if self._groups else None
        child = self._make_child(request.record, group)
        begins_at = dict(zip((STDOUT, STDERR), request.begins_at, strict=True))
        captured = {STDOUT: request.command.stdout, STDERR: request.command.stderr}
        segments: dict[int, Segment] = {}
        try:
            limit_group(group, request.command.limits)
            segments = memory_segments({stream: begins_at[stream] for stream in captured if captured[stream]})
            start = self._make_start(request.command, child)
        except OSError as exc:
            self._refuse(child, segments, answer, exc)
            return
        self._batch.append(_Attempt(request.command, answer, child, start, segments))

    def _make_start(self, command: Command, child: Child) -> Start:
        mark = self._mark_of(child.id)
        return Start(command, group=child.group, open_files=self._open_files, mark=mark)

    def _refuse(self, child: Child, segments: Mapping[int, Segment], answer: Answer, why: OSError) -> None:
        for segment in segments.values():
            segment.close()
        if child.group is not None and self._groups is not None:
            self._groups.discard_group(child.group)
        answer(why)

    def _fork(self) -> None:
        """Have the batch forked by the helper; or do it here, where there is none."""
        starts = [attempt.start for attempt in self._batch]
        if starts and self._helpers_tried < _HELPERS:
            self._helpers_tried += 1
            if self._server.fork([(start.spec, start.fds) for start in starts], self._on_answers):
                return
        fork_here(starts)
        for attempt in self._batch:
            self._finish(attempt)
        self._batch = []
        self._on_settled()

    def _on_answers(self, answers: Answers) -> None:
        left = []
        for attempt, result in zip(self._batch, answers, strict=True):
            if result is None or -result in UNSUPPORTED:
                left.append(attempt)
                continue
            if result > 0:
                attempt.start.pid = result
            else:
                attempt.start.refused = OSError(-result, os.strerror(-result))
            self._finish(attempt)
        if any(result is not None and -result in UNSUPPORTED for result in answers):
            self._server.give_up()
        self._batch = [renewed for attempt in left if (renewed := self._renew(attempt)) is not None]
        self._fork()
        self.fork_next()

    def _renew(self, attempt: _Attempt) -> _Attempt | None:
        """Make a start that may have been forked, unknown to this process, end at its gate, and make another for it."""
        attempt.start.abandon()
        try:
            start = self._make_start(attempt.command, attempt.child)
        except OSError as exc:
            self._refuse(attempt.child, attempt.segments, attempt.answer, exc)
            return None
        return attempt._replace(start=start)

    def _finish(self, attempt: _Attempt) -> None:
        """Pass a process that was forked on, or say why it was not forked."""
        command, answer, child, start, segments = attempt
        start.finish()
        if start.refused is not None:
            self._refuse(child, segments, answer, start.refused)
            return
        child.pid, child.pidfd, child.stdin = start.pid, start.pidfd, start.stdin
        child.gate, child.outcome, child.report = start.gate, start.outcome, start.report
        child.timeout_ms = command.timeout_ms
        pipes = {STDOUT: start.stdout, STDERR: start.stderr}
        child.streams = {
            stream: StreamBuffer(pipes[stream], [segment], relay=start.relay) for stream, segment in segments.items()
        }
        failpoint("shim-forked")
        self._on_forked(child)
        answer(child)
