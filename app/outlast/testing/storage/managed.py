"""Conformance tests of managed processes: later runs, names, and the managed state."""

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.model.event import EventFilter, EventType
from outlast.model.managed import Desired, HealthStatus, ManagedState
from outlast.model.options import Keep, Options, Restart
from outlast.model.output import Position, Stream
from outlast.model.process import ExitStatus, OutputMode, Process, ProcessQuery, Reason, Run, Status, StdinMode
from outlast.storage.base import (
    AddProcess,
    BeginRun,
    Change,
    ChangeSpec,
    CompleteOutput,
    PurgeProcess,
    SetManaged,
    Storage,
    WithdrawRun,
)
from outlast.testing.storage.samples import EPOCH_MS, Output, added, end_of, new_process
from outlast.testing.storage.suite import StorageSuite, read_lines

STATE = ManagedState(
    desired=Desired.STOPPED,
    failures=3,
    decided_run=2,
    next_restart_at_ms=EPOCH_MS,
    last_error="the 'key' is gone",
    last_exit=ExitStatus(reason=Reason.OOM_KILLED, signal=9, ended_at_ms=EPOCH_MS),
    health_run=2,
    health=HealthStatus.UNHEALTHY,
    health_failures=5,
)


def further(number: int, *, pid: int = 4712) -> Run:
    """Return a run that has just started."""
    return Run(number=number, pid=pid, started_at_ms=EPOCH_MS + number)


async def _run_twice(storage: Storage) -> tuple[Process, Output]:
    """Let a process run and end, and begin another run, and commit that beginning twice."""
    handle = await added(storage, new_process(name="web"))
    output = Output(handle)
    await storage.commit([output.chunk(b"1\n"), end_of(handle, exit_code=3), CompleteOutput(handle, 1)])
    assert await storage.unfinished() == []
    begin = BeginRun(handle, further(2))
    await storage.commit([begin, output.chunk(b"2\n", run=2), output.chunk(b"e\n", Stream.STDERR, run=2)])
    await storage.commit([begin, end_of(handle, exit_code=4)])
    process = await storage.process(handle)
    assert process is not None
    return process, output


class ManagedConformance(StorageSuite):
    """The contract's promises about processes with several runs."""

    async def test_a_specification_is_replaced(self, storage: Storage) -> None:
        """All of it but id, name and key, and again without effect. Tags find the process by the new ones only."""
        old = replace(new_process(name="web").spec, tags={"is": "old"}, idempotency_key="key", encrypted_env="old")
        handle = await added(storage, AddProcess(old, further(1)))
        new = replace(
            new_process(name="other").spec,
            command="new",
            args=("a", "b"),
            env_keys=("K",),
            working_dir="/new",
            user="root",
            stdin_mode=StdinMode.PIPE,
            stdout_mode=OutputMode.DISCARD,
            stderr_mode=OutputMode.DISCARD,
            tags={"is": "new"},
            options=Options(nice=3, restart=Restart(), keep=Keep(always=True)),
            encrypted_env=None,
        )
        await storage.commit([ChangeSpec(handle, new), ChangeSpec(handle, new), ChangeSpec(handle + 1, new)])
        process = await storage.process(handle)
        assert process is not None
        assert process.spec == replace(new, id=old.id, name="web", idempotency_key="key")
        assert await storage.process_by_name("web") == await storage.process_by_key("key") == process
        assert await storage.processes(ProcessQuery(tags={"is": "old"})) == []
        assert await storage.processes(ProcessQuery(tags={"is": "new"})) == [process]
        assert await storage.kept_always() == 1

    async def test_that_a_process_is_to_stop_is_an_event(self, storage: Storage) -> None:
        """One each time that it was to run before, of the last run."""
        handle = await added(storage, new_process(name="web"))
        plain = await added(storage)
        to_run = ManagedState(desired=Desired.RUNNING)
        await storage.commit([SetManaged(handle, to_run), SetManaged(plain, STATE)])
        await storage.commit([BeginRun(handle, further(2)), SetManaged(handle, STATE), SetManaged(handle, STATE)])
        await storage.commit([SetManaged(handle, STATE), SetManaged(handle, to_run), SetManaged(handle, STATE)])
        page = await storage.events(0, 100, EventFilter(types=frozenset({EventType.STOPPED})))
        process = await storage.process(handle)
        assert process is not None
        assert [(event.process_id, event.run, event.ending) for event in page.events] == [
            (process.spec.id, 2, None)
        ] * 2

    async def test_a_further_run_is_the_current_one(self, storage: Storage) -> None:
        """The process runs again, and a list finds it by its new status. A repeated change has no effect."""
        process, _ = await _run_twice(storage)
        assert process.run == further(2)
        assert [item.process for item in await storage.unfinished()] == [process]
        assert await storage.processes(ProcessQuery(status=Status.EXITED)) == []
        assert await storage.processes(ProcessQuery(status=Status.RUNNING)) == [process]

    async def test_output_continues_in_a_further_run(self, storage: Storage) -> None:
        """The position and the lines go on from those of the first run."""
        process, output = await _run_twice(storage)
        assert (process.output.lines, await storage.position(process.handle)) == (3, output.position)
        assert await read_lines(storage, process.handle) == [b"1\n", b"2\n", b"e\n"]

    async def test_all_runs_are_listed(self, storage: Storage) -> None:
        """Runs come newest first, in pages."""
        handle = (await _run_twice(storage))[0].handle
        first = replace(new_process().run, ending=end_of(handle, exit_code=3).ending, output_complete=True)
        assert await storage.runs(handle, before_number=None, limit=9) == [further(2), first]
        assert await storage.runs(handle, before_number=None, limit=1) == [further(2)]
        assert await storage.runs(handle, before_number=2, limit=9) == [first]

    async def test_a_process_is_found_by_the_pid_of_each_run(self, storage: Storage) -> None:
        """Both the pid of the first run and that of the second lead to the process."""
        process, _ = await _run_twice(storage)
        for pid in (new_process().run.pid, 4712):
            assert await storage.process_by_pid(pid) == process

    async def test_a_further_run_may_end_in_a_batch(self, storage: Storage) -> None:
        """A process is finished when its last run is, whatever is repeated in the batch."""
        handle = (await _run_twice(storage))[0].handle
        await storage.commit([end_of(handle, run=2), BeginRun(handle, further(2)), CompleteOutput(handle, 2)])
        assert await storage.unfinished() == []

    async def test_a_run_may_be_withdrawn(self, storage: Storage) -> None:
        """The run before is current again. The first run cannot be withdrawn, and an unknown run is ignored."""
        handle = await added(storage, new_process(name="web"))
        await storage.commit([end_of(handle), CompleteOutput(handle, 1)])
        before = await storage.process(handle)
        await storage.commit([WithdrawRun(handle, 2), BeginRun(handle, further(2))])
        await storage.commit([WithdrawRun(handle, 2), WithdrawRun(handle, 1), WithdrawRun(handle + 1, 2)])
        assert await storage.process(handle) == before
        assert await storage.process_by_pid(4712) is None
        assert await storage.unfinished() == []

    async def test_the_managed_state_comes_back(self, storage: Storage) -> None:
        """The managed state is read with the process, and processes that are to run are listed, oldest first."""
        plain = await added(storage)
        named, restarted = new_process(name="web"), new_process()
        restarted = AddProcess(
            replace(restarted.spec, options=Options(restart=Restart()), encrypted_env="c2VhbGVk"), restarted.run
        )
        handles = [await added(storage, change) for change in (named, restarted)]
        supervised = await storage.supervised()
        assert [process.handle for process in supervised] == handles
        assert [process.managed for process in supervised] == [ManagedState()] * 2
        assert supervised[1].spec == restarted.spec
        await storage.commit([SetManaged(handles[0], STATE), SetManaged(plain, STATE)])
        changed, untouched = await storage.process(handles[0]), await storage.process(plain)
        assert changed is not None
        assert untouched is not None
        assert (changed.managed, untouched.managed) == (STATE, None)
        assert [process.handle for process in await storage.supervised()] == handles[1:]
        await storage.commit([PurgeProcess(handles[1])])
        late: list[Change] = [
            SetManaged(handles[1], STATE),
            BeginRun(handles[1], further(2)),
            WithdrawRun(handles[1], 2),
        ]
        await storage.commit(late)
        assert await storage.supervised() == []
        assert await storage.runs(handles[1], before_number=None, limit=9) == []
        assert await storage.position(handles[1]) == Position()

    async def test_a_name_means_its_newest_process(self, storage: Storage) -> None:
        """Names differ by case, and by every character."""
        older, newer = [await added(storage, new_process(name="we'b")) for _ in range(2)]
        await added(storage, new_process(name="WE'B"))
        found = await storage.process_by_name("we'b")
        assert found is not None
        assert found.handle == newer
        await storage.commit([PurgeProcess(newer)])
        found = await storage.process_by_name("we'b")
        assert found is not None
        assert found.handle == older
        assert await storage.process_by_name("we_b") is None

    async def test_a_managed_process_survives_reopening(self, tmp_path: Path) -> None:
        """All runs and the managed state are there after reopening."""
        if not self.persistent:
            pytest.skip("the storage is not persistent")
        storage = self.make_storage(tmp_path)
        await storage.open()
        handle = await added(storage, new_process(name="web"))
        await storage.commit([end_of(handle), CompleteOutput(handle, 1), BeginRun(handle, further(2))])
        await storage.commit([SetManaged(handle, STATE)])
        before = await storage.process(handle)
        await storage.close()
        storage = self.make_storage(tmp_path)
        await storage.open()
        try:
            assert await storage.process(handle) == before
            assert len(await storage.runs(handle, before_number=None, limit=9)) == 2
        finally:
            await storage.close()
