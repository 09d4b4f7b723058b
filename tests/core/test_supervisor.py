"""The link to the shim may be lost at any time, also while the daemon recovers from an earlier loss."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from outlast.core.commands.start_request import StartRequest
from outlast.core.manager import ProcessManager
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import BufferLimits, Supervisor
from outlast.model.errors import ShimUnavailable
from outlast.model.output import ChunkQuery, Position, Stream
from outlast.model.process import Process, ProcessSpec, Reason, Run, StdinMode
from outlast.model.ulid import new_ulid
from outlast.shim.connection.listener import Listener
from outlast.shimlink import HeldProcess
from outlast.storage import CompleteOutput, Unfinished
from outlast.storage.memory.storage import MemoryStorage
from outlast.testing.storage.samples import added, new_process
from outlast.wire import codec
from tests.support.daemon import shim_pid
from tests.support.waiting import eventually

LIMITS = BufferLimits(process_bytes=1 << 20, memory_bytes=1 << 20, spool_bytes=1 << 20)


class HesitantStorage(MemoryStorage):
    """A storage that returns what is unfinished only once `resume` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.resume = asyncio.Event()
        self.resume.set()

    async def unfinished(self) -> list[Unfinished]:
        self.asked.set()
        await self.resume.wait()
        return await super().unfinished()


@pytest.fixture
async def storage() -> HesitantStorage:
    return HesitantStorage()


@pytest.fixture
async def manager(storage: HesitantStorage, state_dir: Path) -> AsyncIterator[ProcessManager]:
    """A manager that is not open yet, to replace an earlier one. The end of the test ends everything."""
    state_dir.mkdir(mode=0o700)
    manager = ProcessManager(storage, state_dir, LIMITS)
    yield manager
    await eventually(lambda: manager.health() is None)
    await manager.shutdown(0)
    await manager.close()


async def cat(storage: HesitantStorage, state_dir: Path, count: int) -> list[Process]:
    """Let an earlier daemon start processes, and stop."""
    earlier = ProcessManager(storage, state_dir, LIMITS)
    await earlier.open()
    request = StartRequest(command="cat", stdin_mode=StdinMode.PIPE)
    processes = [(await earlier.start(request)).view.process for _ in range(count)]
    await earlier.close()
    return processes


async def write(manager: ProcessManager, process: Process, data: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield data

    await manager.write_stdin(process.spec.id, body())


async def printed(storage: HesitantStorage, process: Process) -> bytes:
    return b"".join(c.data for c in await storage.chunks(ChunkQuery(handle=process.handle, max_bytes=1 << 20)))


async def test_recovery_succeeds_if_the_shim_dies_during_it(
    storage: HesitantStorage, manager: ProcessManager, state_dir: Path
) -> None:
    processes = await cat(storage, state_dir, 3)
    storage.asked.clear()
    storage.resume.clear()
    opening = asyncio.create_task(manager.open())
    await storage.asked.wait()
    shim = shim_pid(state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: manager.health() is not None)
    storage.resume.set()
    await opening
    await eventually(lambda: manager.health() is None)
    for number, process in enumerate(processes):
        await write(manager, process, b"%d\n" % number)
        await manager.close_stdin(process.spec.id)
    for number, process in enumerate(processes):

        async def whole(process: Process = process, number: int = number) -> bool:
            return await printed(storage, process) == b"%d\n" % number

        await eventually(whole)

        async def ended(process: Process = process) -> bool:
            return (await manager.get(process.spec.id)).process.run.ending is not None

        await eventually(ended)
        ending = (await manager.get(process.spec.id)).process.run.ending
        assert ending is not None
        assert (ending.reason, ending.exit_code) == (Reason.EXITED, 0)


async def test_the_daemon_reconnects_to_a_shim_that_keeps_dying(state_dir: Path) -> None:
    """Here, the shim dies just as it has sent the end of its inventory."""
    state_dir.mkdir(mode=0o700)
    greeted = left = 0

    async def as_the_shim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted, left
        greeted += 1
        number = greeted
        writer.write(codec.encode_greeting(codec.PROTOCOL_VERSION, {"pid": os.getpid(), "version": "0"}))
        await reader.readexactly(1)
        writer.write(codec.encode(codec.MessageType.INVENTORY_END))
        if number not in {1, 2}:
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        left += 1

    manager = ProcessManager(MemoryStorage(), state_dir, LIMITS)
    listener = Listener(state_dir)
    async with await asyncio.start_unix_server(as_the_shim, sock=listener.sock):
        await manager.open()
        await eventually(lambda: greeted >= 3 and manager.health() is None)
        await manager.close()
        await eventually(lambda: left == greeted)
    listener.close()


async def test_a_sweep_is_repeated_if_the_shim_dies_during_it(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    storage = MemoryStorage()
    lost = new_process()
    await added(storage, lost)
    swept: list[list[str]] = []
    greeted = left = 0

    async def as_the_shim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted, left
        greeted += 1
        writer.write(codec.encode_greeting(codec.PROTOCOL_VERSION, {"pid": os.getpid(), "version": "0"}))
        writer.write(codec.encode(codec.MessageType.INVENTORY_END))
        decoder = codec.Decoder(1 << 16)
        while data := await reader.read(1 << 10):
            decoder.space()[: len(data)] = data
            decoder.filled(len(data))
            for kind, payload in decoder.messages():
                if kind is codec.MessageType.SWEEP:
                    message = json.loads(bytes(payload))
                    swept.append(message["ids"])
                    if len(swept) == 1:
                        writer.transport.abort()
                    else:
                        writer.write(codec.encode_json(codec.MessageType.REPLY, {"request": message["request"]}))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        left += 1

    manager = ProcessManager(storage, state_dir, LIMITS)
    listener = Listener(state_dir)
    async with await asyncio.start_unix_server(as_the_shim, sock=listener.sock):
        await manager.open()
        await eventually(lambda: len(swept) == 2 and manager.health() is None)
        ending = (await manager.get(lost.spec.id)).process.run.ending
        assert ending is not None
        assert ending.reason is Reason.LOST
        await manager.close()
        await eventually(lambda: left == greeted)
    listener.close()
    assert swept == [[lost.spec.id]] * 2


class _Link:
    """A link whose `adopt` and `kill` do what a test wants to happen meanwhile."""

    connected = True

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.adopted: list[str] = []
        self.forgotten: list[int] = []
        self.killed: list[str] = []
        self._meanwhile = meanwhile

    async def adopt(self, record: dict[str, str], _held: HeldProcess, _ending: object) -> int:
        self.adopted.append(record["id"])
        self._meanwhile()
        return len(self.adopted)

    def forget(self, slot: int) -> None:
        self.forgotten.append(slot)

    async def kill(self, process_id: str) -> None:
        self._meanwhile()
        self.killed.append(process_id)


def registered(supervisor: Supervisor, slot: int = 0) -> LiveProcess:
    """Register a process that runs and has nothing open."""
    spec = ProcessSpec(id=new_ulid(1), command="x", working_dir="/")
    held = HeldProcess(pid=1, started_at_ms=1, group=None, pidfd=None, stdin=None, streams={})
    live = LiveProcess(spec, Run(pid=1, started_at_ms=1), slot, held)
    supervisor._registry.register(live)
    return live


@pytest.mark.parametrize(
    ("finished", "adopted", "forgotten", "slots"),
    [(0, [0, 1], [1], [0, 2]), (1, [0], [], [1, 0])],
    ids=["the one that is being handed over", "the next one"],
)
async def test_a_process_that_finishes_during_a_handover_is_not_handed_over(
    tmp_path: Path, finished: int, adopted: list[int], forgotten: list[int], slots: list[int]
) -> None:
    storage = MemoryStorage()
    supervisor = Supervisor(storage, Committer(storage), ChunkCache(), tmp_path, LIMITS)
    lives = [registered(supervisor) for _ in range(2)]
    link = _Link(lambda: supervisor.release(lives[finished]))
    await supervisor._recovery.reconnect(link, [])  # type: ignore[arg-type]
    assert link.adopted == [lives[index].spec.id for index in adopted]
    assert link.forgotten == forgotten
    assert [live.slot for live in lives] == slots


async def test_a_spawn_is_undone_even_if_the_shim_dies_meanwhile(tmp_path: Path) -> None:
    """The process stays registered, so that it is handed over, until it is certainly killed."""
    storage = MemoryStorage()
    supervisor = Supervisor(storage, Committer(storage), ChunkCache(), tmp_path, LIMITS)
    live = registered(supervisor, slot=3)
    tries = 0

    def fail_twice() -> None:
        nonlocal tries
        tries += 1
        assert supervisor.get(live.spec.id) is live
        if tries < 3:
            raise ShimUnavailable("it died")

    link = _Link(fail_twice)
    supervisor._link = link  # type: ignore[assignment]
    await supervisor.undo_spawn(live)
    assert (tries, link.killed, link.forgotten) == (3, [live.spec.id], [3])
    assert supervisor.get(live.spec.id) is None


class _AttachLink:
    """A link that notes what is attached, and is not aborted."""

    connected = True

    def __init__(self) -> None:
        self.attached: list[tuple[int, int]] = []

    def attach(self, slot: int, position: Position) -> None:
        self.attached.append((slot, position.stdout_end))

    def acknowledge(self, slot: int, position: Position) -> None: ...

    def forget(self, slot: int) -> None: ...

    def abort(self, why: Exception) -> None:
        raise AssertionError(why)


async def test_what_the_shim_sent_for_an_earlier_attach_is_passed_over(tmp_path: Path) -> None:
    """The store has rejected output, and capture continues from before it, while the shim still sends what follows."""
    storage = MemoryStorage()
    committer = Committer(storage)
    supervisor = Supervisor(storage, committer, ChunkCache(), tmp_path, LIMITS)
    supervisor._link = link = _AttachLink()  # type: ignore[assignment]
    live = registered(supervisor, slot=3)
    supervisor.start_recording(live, 1, Position())
    supervisor.on_attached(3, 0, 0)
    first = live.recorder
    supervisor._on_rejected(CompleteOutput(1, 1), "the store rejects it")
    supervisor.quarantine.discharge(live.spec.id)
    supervisor.start_recording(live, 1, Position())
    assert link.attached == [(3, 0), (3, 0)]
    assert live.recorder is not first
    supervisor.on_output(3, Stream.STDOUT, 1, 4096, 10)  # does not join offset 0
    supervisor.on_output(3, Stream.STDOUT, 1, 4106, 0)
    supervisor.on_exited(3, {"code": 0, "ts_ms": 1, "timed_out": False, "oom_killed": False})
    assert not live.ended
    supervisor.on_attached(3, 0, 0)
    supervisor.on_exited(3, {"code": 0, "ts_ms": 1, "timed_out": False, "oom_killed": False})
    assert live.ended
