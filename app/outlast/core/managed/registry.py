"""Processes that are looked after: who has which name, and what they are to do."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from outlast.core.condition import Condition
from outlast.core.supervision.live_process import LiveProcess
from outlast.model.errors import NameInUse
from outlast.model.managed import Desired, ManagedState
from outlast.model.process import Process, ProcessSpec


class ManagedProcess(Condition):
    """A managed process through all of its runs. Followers of it wait here: `last_seq` and `finished` are its own.

    Attributes:
        state: as it is stored, or on the way there.
        live: its current or last run, if that is or was looked after by this daemon.
        lock: held while it is started, stopped, or decided upon.
        task: looks after it.
        is_beginning: its next run is being started.
    """

    def __init__(self, process: Process, live: LiveProcess | None) -> None:
        super().__init__()
        self.handle = process.handle
        self.spec: ProcessSpec = process.spec
        self.state = process.managed or ManagedState()
        self.lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.live: LiveProcess | None = None
        self.is_beginning = False
        self._last_seq = process.output.last_seq
        if live is not None:
            self.take(live)

    @property
    def wanted(self) -> bool:
        """It is to run."""
        return self.state.desired is Desired.RUNNING

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""
        self._last_seq = max(self._last_seq, self.live.last_seq if self.live is not None else 0)
        return self._last_seq

    @property
    def finished(self) -> bool:
        """It is not started again, and all of its output is stored."""
        return not self.wanted and (self.live is None or self.live.finished)

    @property
    def is_up(self) -> bool:
        """Its current run has not ended."""
        return self.live is not None and not self.live.end_stored

    def take(self, live: LiveProcess) -> None:
        """This is its run from now on. What earlier runs' health checks have said is of no more interest."""
        if self.state.health_run != live.run.number:
            self.state = replace(self.state, health_run=live.run.number, health=None, health_failures=0)
        self.live = live
        live.watcher = self
        self.wake()


class ManagedRegistry:
    """Those that are to run, or have not ended yet, by id; and the names that they hold."""

    def __init__(self) -> None:
        self._by_id: dict[str, ManagedProcess] = {}
        self._names: dict[str, str] = {}

    def __iter__(self) -> Iterator[ManagedProcess]:
        return iter(tuple(self._by_id.values()))

    def get(self, process_id: str) -> ManagedProcess | None:
        """Return one by id."""
        return self._by_id.get(process_id)

    def holder(self, name: str) -> str | None:
        """Return the id of the process that holds a name."""
        return self._names.get(name)

    def reserve(self, spec: ProcessSpec) -> None:
        """Let a process hold its name, if it has one. There is no pause in which two could get it.

        Raises:
            NameInUse: another holds it.
        """
        if spec.name is not None and self._names.setdefault(spec.name, spec.id) != spec.id:
            raise NameInUse(f"the name {spec.name!r} is held by a live process: choose another, or DELETE that one")

    def free(self, spec: ProcessSpec) -> None:
        """It holds its name no longer."""
        if spec.name is not None and self._names.get(spec.name) == spec.id:
            del self._names[spec.name]

    def add(self, managed: ManagedProcess) -> None:
        """Know one from now on.

        Raises:
            NameInUse: another holds its name.
        """
        self.reserve(managed.spec)
        self._by_id[managed.spec.id] = managed

    def remove(self, managed: ManagedProcess) -> None:
        """It is stopped for good."""
        if self._by_id.get(managed.spec.id) is managed:
            del self._by_id[managed.spec.id]
            self.free(managed.spec)
