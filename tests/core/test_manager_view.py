"""A process as a caller sees it: state and run of a managed process belong to the same moment."""

from dataclasses import replace
from pathlib import Path

from outlast.core.managed.registry import ManagedProcess
from outlast.core.manager import ProcessManager
from outlast.core.supervision.supervisor import BufferLimits
from outlast.model.exit_status import ExitStatus, Reason
from outlast.model.managed import ManagedState
from outlast.model.process import Process
from outlast.storage.memory import MemoryStorage
from outlast.testing.storage.samples import EPOCH_MS, new_process

LIMITS = BufferLimits(process_bytes=1 << 20, memory_bytes=1 << 20, spool_bytes=1 << 20)
BACKING_OFF = ManagedState(failures=1, next_restart_at_ms=EPOCH_MS + 500)


def make_manager(tmp_path: Path) -> tuple[ProcessManager, Process]:
    """Return a manager that has decided to restart a process, and the process as it was before its run ended."""
    change = new_process(name="web")
    running = Process(handle=1, spec=change.spec, run=change.run, managed=ManagedState())
    manager = ProcessManager(MemoryStorage(), tmp_path, LIMITS)
    managed = ManagedProcess(running, None)
    managed.state = BACKING_OFF
    manager._managed.registry.register(managed)
    return manager, running


async def test_a_run_read_before_its_end_keeps_its_state(tmp_path: Path) -> None:
    manager, running = make_manager(tmp_path)
    assert manager._view(running).process.managed == ManagedState()


async def test_a_run_read_after_its_end_has_the_newest_state(tmp_path: Path) -> None:
    manager, running = make_manager(tmp_path)
    ending = ExitStatus(reason=Reason.EXITED, exit_code=1, ended_at_ms=EPOCH_MS + 1)
    ended = replace(running, run=replace(running.run, ending=ending))
    assert manager._view(ended).process.managed == BACKING_OFF
