"""Conformance tests of processes: recording, listing, purging, reopening."""

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.model.output import ChunkQuery, Position, Stream
from outlast.model.process import (
    ExitStatus,
    OutputMode,
    OutputSummary,
    ProcessQuery,
    ProcessSpec,
    Reason,
    Run,
    Status,
    StdinMode,
)
from outlast.storage.base import AddProcess, Change, CompleteOutput, EndRun, PurgeProcess, Storage, WithdrawProcess
from outlast.testing.storage.samples import EPOCH_MS, OPTIONS, Output, added, end_of, new_process
from outlast.testing.storage.suite import AWKWARD, EVERYTHING_BYTES, StorageSuite, read_lines


class ProcessConformance(StorageSuite):
    """The contract's promises about processes."""

    # ---- processes

    async def test_a_new_storage_is_empty(self, storage: Storage) -> None:
        """Nothing is found, and nothing raises."""
        assert await storage.total() == 0
        assert await storage.processes(ProcessQuery()) == []
        assert await storage.unfinished() == []
        assert await storage.process(1) is None
        assert await storage.process_by_id(new_process().spec.id) is None
        assert await storage.process_by_pid(1) is None
        assert await storage.process_by_key("k") is None
        assert await storage.chunks(ChunkQuery(handle=1, max_bytes=1)) == []
        assert await storage.tail(1, 10) == 0
        assert await storage.tail(1, 10, stream=Stream.STDERR) == 0
        assert await storage.commit([]) == {}

    async def test_every_field_of_a_process_comes_back(self, storage: Storage) -> None:
        """A process is read with all fields as they were added."""
        spec = ProcessSpec(
            id=new_process().spec.id,
            command="/opt/ünï cödé/\N{PILE OF POO}",
            args=("", "a b", '"', "\\", "line\nbreak", "\u2028"),
            env_keys=("LANG", "PATH"),
            working_dir="/srv/with space",
            user="1000:1000",
            stdin_mode=StdinMode.PIPE,
            stdout_mode=OutputMode.DISCARD,
            stderr_mode=OutputMode.DISCARD,
            name="web server",
            tags={"": "empty", "team": "", "tier": "é\n\\"},
            idempotency_key="deploy 'é' %_",
            options=OPTIONS,
        )
        run = Run(pid=2**22, started_at_ms=EPOCH_MS)
        handle = await added(storage, AddProcess(spec, run))
        process = await storage.process(handle)
        assert process is not None
        assert (process.handle, process.spec, process.run) == (handle, spec, run)
        assert process.output == OutputSummary()
        assert await storage.process_by_id(spec.id) == process
        assert await storage.process_by_pid(run.pid) == process
        assert await storage.process_by_key("deploy 'é' %_") == process
        assert await storage.process_by_key("deploy 'É' %_") is None
        assert await storage.processes(ProcessQuery()) == [process]

    @pytest.mark.parametrize(
        "ending",
        [
            ExitStatus(reason=Reason.EXITED, exit_code=0, ended_at_ms=EPOCH_MS),
            ExitStatus(reason=Reason.EXITED, exit_code=255, ended_at_ms=EPOCH_MS),
            ExitStatus(reason=Reason.SIGNALED, signal=9, ended_at_ms=EPOCH_MS),
            ExitStatus(reason=Reason.TIMED_OUT, signal=9, ended_at_ms=EPOCH_MS),
            ExitStatus(reason=Reason.OOM_KILLED, signal=9, ended_at_ms=EPOCH_MS),
            ExitStatus(reason=Reason.LOST, ended_at_ms=EPOCH_MS),
        ],
    )
    async def test_every_ending_comes_back(self, storage: Storage, ending: ExitStatus) -> None:
        """Each kind of end is read as committed, whether after the process or with it."""
        handle = await added(storage)
        await storage.commit([EndRun(handle, 1, ending)])
        at_once = new_process()
        at_once = replace(at_once, run=replace(at_once.run, ending=ending, output_complete=True))
        for number in (handle, await added(storage, at_once)):
            process = await storage.process(number)
            assert process is not None
            assert process.run.ending == ending
            assert process.run.status is ending.status

    async def test_the_first_ending_stays(self, storage: Storage) -> None:
        """EndRun and CompleteOutput may be repeated and change nothing then."""
        handle = await added(storage)
        await storage.commit([end_of(handle, exit_code=3), CompleteOutput(handle, 1)])
        once = await storage.process(handle)
        await storage.commit([end_of(handle, exit_code=4), CompleteOutput(handle, 1), end_of(handle)])
        assert await storage.process(handle) == once
        assert once is not None
        assert once.run.ending == end_of(handle, exit_code=3).ending

    async def test_adding_an_id_again_changes_nothing(self, storage: Storage) -> None:
        """The answer is the stored handle, within one batch and between batches."""
        first = new_process(team="a")
        again = replace(first, spec=replace(first.spec, command="other", tags={"team": "b"}))
        handles = await storage.commit([first, again])
        assert await storage.commit([again]) == handles
        assert await storage.total() == 1
        process = await storage.process(handles[first.spec.id])
        assert process is not None
        assert process.spec == first.spec

    async def test_handles_ascend(self, storage: Storage) -> None:
        """The processes of one batch get handles in the order of the batch."""
        batch = [new_process() for _ in range(5)]
        handles = await storage.commit(batch)
        assert [handles[change.spec.id] for change in batch] == sorted(handles.values())

    async def test_a_handle_is_never_used_again(self, storage: Storage) -> None:
        """Even the highest handle is not used again after a purge."""
        handles = await storage.commit([new_process() for _ in range(5)])
        highest = max(handles.values())
        await storage.commit([PurgeProcess(highest)])
        assert await added(storage) > highest

    async def test_a_pid_means_its_newest_process(self, storage: Storage) -> None:
        """The system uses pids again. When the newest process is purged, the one before it is found."""
        older, newer = [await added(storage, new_process(pid=77)) for _ in range(2)]
        await added(storage, new_process(pid=78))
        found = await storage.process_by_pid(77)
        assert found is not None
        assert found.handle == newer
        await storage.commit([PurgeProcess(newer)])
        found = await storage.process_by_pid(77)
        assert found is not None
        assert found.handle == older

    async def test_a_key_stays_with_the_process_that_has_it(self, storage: Storage) -> None:
        """A second process with the key is stored without it, in the same batch or later. A purge frees the key."""
        first, second, third = (new_process(key="k") for _ in range(3))
        handles = await storage.commit([first, second])
        handles = {**handles, **await storage.commit([third, first])}
        holder = await storage.process_by_key("k")
        assert holder is not None
        assert (holder.handle, holder.spec) == (handles[first.spec.id], first.spec)
        for other in (second, third):
            process = await storage.process(handles[other.spec.id])
            assert process is not None
            assert process.spec == replace(other.spec, idempotency_key=None)
        await storage.commit([PurgeProcess(handles[second.spec.id]), PurgeProcess(holder.handle)])
        assert await storage.process_by_key("k") is None
        fourth = new_process(key="k")
        handle = await added(storage, fourth)
        await storage.commit([end_of(handle), CompleteOutput(handle, 1)])
        holder = await storage.process_by_key("k")
        assert holder is not None
        assert (holder.handle, holder.spec) == (handle, fourth.spec)
        assert holder == await storage.process(handle)

    async def test_unfinished_means_not_ended_or_not_drained(self, storage: Storage) -> None:
        """Unfinished processes are listed oldest first, each with the position of its output."""
        handles = [await added(storage) for _ in range(4)]
        running, ended, drained, done = handles
        output = Output(ended)
        await storage.commit(
            [
                output.chunk(b"a\nb"),
                output.chunk(b"c\n", Stream.STDERR),
                end_of(ended),
                CompleteOutput(drained, 1),
                end_of(done),
                CompleteOutput(done, 1),
            ]
        )
        unfinished = await storage.unfinished()
        assert [entry.process.handle for entry in unfinished] == [running, ended, drained]
        assert [entry.position for entry in unfinished] == [Position(), output.position, Position()]
        assert [entry.process for entry in unfinished] == [await storage.process(n) for n in handles[:3]]

    # ---- purging

    async def test_a_purged_process_is_gone(self, storage: Storage) -> None:
        """No list and no read finds the process; other processes stay."""
        purged, kept = [await added(storage, new_process(pid=50 + n, team="a")) for n in range(2)]
        process = await storage.process(purged)
        assert process is not None
        kept_output = Output(kept)
        await storage.commit([Output(purged).chunk(b"x\n" * 1000), kept_output.chunk(b"y\n")])
        await storage.commit([PurgeProcess(purged)])
        assert await storage.process(purged) is None
        assert await storage.process_by_id(process.spec.id) is None
        assert await storage.process_by_pid(process.run.pid) is None
        for query in (ProcessQuery(), ProcessQuery(tags={"team": "a"}), ProcessQuery(status=Status.RUNNING)):
            assert [entry.handle for entry in await storage.processes(query)] == [kept]
        assert [entry.process.handle for entry in await storage.unfinished()] == [kept]
        assert await storage.total() == 1
        for stream in (None, *Stream):
            assert await storage.chunks(ChunkQuery(handle=purged, max_bytes=1, stream=stream)) == []
            assert await storage.tail(purged, 5, stream=stream) == 0
        assert await read_lines(storage, kept) == [b"y\n"]

    async def test_changes_to_a_purged_process_are_ignored(self, storage: Storage) -> None:
        """Changes in the same batch and later are ignored; the rest of the batch is stored."""
        purged, kept = [await added(storage) for _ in range(2)]
        late, output = Output(purged), Output(kept)
        await storage.commit([late.chunk(b"1\n"), PurgeProcess(purged), late.chunk(b"2\n"), end_of(purged)])
        await storage.commit([late.chunk(b"3\n"), end_of(purged), CompleteOutput(purged, 1), PurgeProcess(purged)])
        await storage.commit([late.chunk(b"4\n"), output.chunk(b"kept\n")])
        assert await storage.process(purged) is None
        assert await storage.chunks(ChunkQuery(handle=purged, max_bytes=1)) == []
        assert await read_lines(storage, kept) == [b"kept\n"]

    async def test_withdrawing_purges_what_is_stored(self, storage: Storage) -> None:
        """A process is removed by id with its output, also within the batch that adds it. An unknown id is ignored."""
        first, second, third = (new_process(pid=50 + n, team="a") for n in range(3))
        handle, kept = await added(storage, first), await added(storage, third)
        late, output = Output(handle), Output(kept)
        await storage.commit([late.chunk(b"1\n"), output.chunk(b"kept\n")])
        withdrawals = [WithdrawProcess(change.spec.id) for change in (first, second, new_process())]
        batch: list[Change] = [late.chunk(b"2\n"), second, *withdrawals]
        late.chunk(b"behind a hole, but its process is not stored\n")
        await storage.commit([*batch, late.chunk(b"4\n"), output.chunk(b"too\n")])
        await storage.commit(withdrawals)
        assert [entry.process.handle for entry in await storage.unfinished()] == [kept]
        assert [entry.handle for entry in await storage.processes(ProcessQuery(tags={"team": "a"}))] == [kept]
        assert await storage.total() == 1
        for change in (first, second):
            assert await storage.process_by_id(change.spec.id) is None
            assert await storage.process_by_pid(change.run.pid) is None
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=1)) == []
        assert await read_lines(storage, kept) == [b"kept\n", b"too\n"]
        assert await added(storage, second) > kept

    async def test_a_purged_id_may_be_added_again(self, storage: Storage) -> None:
        """The process is a new one, with a new handle and no output."""
        change = new_process(team="a")
        old = await added(storage, change)
        await storage.commit([Output(old).chunk(b"old\n"), PurgeProcess(old)])
        new = await added(storage, change)
        assert new > old
        assert await storage.chunks(ChunkQuery(handle=new, max_bytes=1)) == []

    # ---- closing and opening

    async def test_close_may_be_repeated(self, tmp_path: Path) -> None:
        """A storage that was never opened may be closed, too."""
        storage = self.make_storage(tmp_path)
        await storage.close()
        await storage.open()
        await storage.close()
        await storage.close()

    async def test_everything_committed_survives_reopening(self, tmp_path: Path) -> None:
        """Processes, output, positions, purges, and the rule that handles are never reused."""
        if not self.persistent:
            pytest.skip("the storage is not persistent")
        storage = self.make_storage(tmp_path)
        await storage.open()
        kept, purged = [await added(storage, new_process(team="a", key=key)) for key in ("k", "other")]
        output = Output(kept)
        chunks = [output.chunk(AWKWARD), output.chunk(b"half", Stream.STDERR)]
        await storage.commit([*chunks, Output(purged).chunk(b"x\n" * 999), PurgeProcess(purged)])
        before = await storage.unfinished()
        await storage.close()

        storage = self.make_storage(tmp_path)
        await storage.open()
        try:
            assert await storage.unfinished() == before
            assert await storage.processes(ProcessQuery(tags={"team": "a"})) == [before[0].process]
            assert await storage.process_by_key("k") == before[0].process
            assert await storage.chunks(ChunkQuery(handle=kept, max_bytes=EVERYTHING_BYTES)) == chunks
            assert await storage.chunks(ChunkQuery(handle=purged, max_bytes=1)) == []
            await storage.commit([output.chunk(b"more\n")])
            assert await added(storage) > purged
        finally:
            await storage.close()
