"""The managed processes, their state, and the names that they hold."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from outlast.core.condition import Condition
from outlast.core.supervision.live_process import LiveProcess
from outlast.model.errors import NameInUse
from outlast.model.managed import Desired, ManagedState
from outlast.model.process import Process, ProcessSpec


class ManagedProcess(Condition):
    """A managed process over all of its runs. Its followers wait here, for `last_seq` and `finished` of all runs.

    Attributes:
        spec: the specification of the current or last run.
        state: the state that is stored, or submitted to the store.
        live: the current or last run, if this daemon has had it.
        lock: held while a run is started or stopped, or a restart is decided.
        task: restarts the process and checks its health.
        run_number: number of the current or last run.
        is_starting: whether the next run is being started.
        is_held: whether only a call starts the next run, because the store is that of another state folder.
        shortages: number of tries in a row to start it that failed because the system lacked something.
        is_stop_stored: False while the store lacks that the process is to stop, and is to get it.
    """

    def __init__(self, process: Process, live: LiveProcess | None) -> None:
        super().__init__()
        self.handle = process.handle
        self.spec: ProcessSpec = process.spec
        self.state = process.managed or ManagedState()
        self.lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.live: LiveProcess | None = None
        self.run_number = process.run.number
        self.is_starting = False
        self.is_held = False
        self.shortages = 0
        self.is_stop_stored = True
        self._last_seq = process.output.last_seq
        if live is not None:
            self.attach_run(live)

    @property
    def should_run(self) -> bool:
        """Whether the process is to be kept running."""
        return self.state.desired is Desired.RUNNING

    @property
    def is_replaced(self) -> bool:
        """Whether a call replaces the current or last run by another one, which is begun and not done."""
        return self.should_run and self.state.replaced_run == self.run_number

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line or gap that followers may see."""
        if self.live is not None and self.live.recorder is not None:
            self._last_seq = self.live.last_seq
        return self._last_seq

    @property
    def stored_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""
        if self.live is not None and self.live.recorder is not None:
            return self.live.stored_seq
        return self._last_seq

    @property
    def finished(self) -> bool:
        """Whether no further run is started, and all output is stored."""
        return (self.is_held or not self.should_run) and (self.live is None or self.live.finished)

    @property
    def is_healthy(self) -> bool:
        """Whether the current run is up, and healthy by its check or its output."""
        return self.is_up and self.state.is_healthy_in(self.run_number)

    @property
    def is_up(self) -> bool:
        """Whether a run has been started whose end is not stored."""
        return self.live is not None and not self.live.end_stored

    def is_up_in(self, number: int) -> bool:
        """Return whether the run with this number has been started, and its end is not stored."""
        return self.live is not None and self.live.run.number == number and self.is_up

    def attach_run(self, live: LiveProcess) -> None:
        """Note the current run. The health of an earlier run is forgotten."""
        if self.state.health_run != live.run.number:
            self.state = replace(self.state, health_run=live.run.number, health=None, health_failures=0)
        self._last_seq = self.last_seq
        self.live = live
        self.spec = live.spec
        self.run_number = live.run.number
        live.dependent = self
        self.wake()


class ManagedRegistry:
    """The managed processes that are to run or have not ended, by id, and the names that they hold."""

    def __init__(self) -> None:
        self._by_id: dict[str, ManagedProcess] = {}
        self._names: dict[str, str] = {}

    def __iter__(self) -> Iterator[ManagedProcess]:
        return iter(tuple(self._by_id.values()))

    def get(self, process_id: str) -> ManagedProcess | None:
        """Return a managed process by id."""
        return self._by_id.get(process_id)

    def name_holder(self, name: str) -> str | None:
        """Return the id of the process that holds a name."""
        return self._names.get(name)

    def reserve_name(self, spec: ProcessSpec) -> None:
        """Reserve the name of a process, if it has one.

        Raises:
            NameInUse: another process holds the name.
        """
        if spec.name is not None and self._names.setdefault(spec.name, spec.id) != spec.id:
            raise NameInUse(
                f"name {spec.name!r} is in use by a live process: choose another name, or end or change that process"
            )

    def free_name(self, spec: ProcessSpec) -> None:
        """Release the name that a process holds, if any."""
        if spec.name is not None and self._names.get(spec.name) == spec.id:
            del self._names[spec.name]

    def register(self, managed: ManagedProcess) -> None:
        """Add a process, and reserve its name.

        Raises:
            NameInUse: another process holds the name.
        """
        self.reserve_name(managed.spec)
        self._by_id[managed.spec.id] = managed

    def unregister(self, managed: ManagedProcess) -> None:
        """Remove a process that is stopped for good, and release its name."""
        if self._by_id.get(managed.spec.id) is managed:
            del self._by_id[managed.spec.id]
            self.free_name(managed.spec)
