"""Requests that may be done twice are repeated to the next shim; of all others it is known whether a shim got them."""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.supervisor import BufferLimits, Supervisor
from outlast.model.errors import NoAnswer, ShimUnavailable
from outlast.shim.connection.listener import Listener
from outlast.shimlink import LINK_BROKE, NotSent, ShimLink, ShimLost
from outlast.shimlink.events import ShimEvents
from outlast.storage.memory.storage import MemoryStorage
from outlast.wire import codec
from tests.support.waiting import eventually

LIMITS = BufferLimits(process_bytes=1 << 20, memory_bytes=1 << 20, spool_bytes=1 << 20)
OUTCOME = {"is_gone": True, "strays": [], "since_ticks": 7}
KEY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
GREETED = codec.encode_greeting(codec.PROTOCOL_VERSION, {"pid": os.getpid(), "version": "0"}) + codec.encode(
    codec.MessageType.INVENTORY_END
)


def decoded(data: bytes) -> Iterator[tuple[codec.MessageType, Any]]:
    """Yield the requests among messages of a daemon."""
    decoder = codec.Decoder(max(1, len(data)))
    decoder.space()[: len(data)] = data
    decoder.filled(len(data))
    for kind, payload in decoder.messages():
        if kind is not codec.MessageType.GREETING:
            yield kind, json.loads(bytes(payload))


def reply(request: dict[str, Any]) -> bytes:
    return codec.encode_json(codec.MessageType.REPLY, {"request": request["request"], **OUTCOME})


@contextlib.asynccontextmanager
async def shims(state_dir: Path, answers: Callable[[int], bool]) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """Yield a supervisor, and the keys that its shims were asked to kill.

    `answers` tells of each such request, by its number from 1 on, whether the shim answers it or dies.
    """
    state_dir.mkdir(mode=0o700)
    asked: list[str] = []
    left: list[None] = []
    came: list[None] = []

    async def as_the_shim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(None)
        writer.write(GREETED)
        while data := await reader.read(1 << 12):
            for kind, request in decoded(data):
                assert kind is codec.MessageType.KILL
                asked.append(request["id"])
                if answers(len(asked)):
                    writer.write(reply(request))
                else:
                    writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        left.append(None)

    storage = MemoryStorage()
    supervisor = Supervisor(storage, Committer(storage), ChunkCache(), state_dir, LIMITS)
    listener = Listener(state_dir)
    async with await asyncio.start_unix_server(as_the_shim, sock=listener.sock):
        await supervisor.open()
        yield supervisor, asked
        await supervisor.close()
        await eventually(lambda: len(left) == len(came))
    listener.close()


async def test_a_kill_that_a_dying_shim_has_got_is_asked_of_the_next(state_dir: Path) -> None:
    async with shims(state_dir, lambda number: number > 2) as (supervisor, asked):
        assert (await repeatable.kill(supervisor, KEY)).since_ticks == OUTCOME["since_ticks"]
        assert asked == [KEY] * 3


async def test_a_kill_waits_for_a_shim_that_is_being_replaced(state_dir: Path) -> None:
    async with shims(state_dir, lambda _: True) as (supervisor, asked):
        supervisor.link.abort(ConnectionError("cut by the test"))
        assert not supervisor.connected
        assert (await repeatable.kill(supervisor, KEY)).is_gone
        assert asked == [KEY]


async def test_without_another_shim_in_time_it_is_said_whether_one_was_asked(state_dir: Path) -> None:
    async with shims(state_dir, lambda _: False) as (supervisor, asked):
        with pytest.raises(NoAnswer):
            await repeatable.kill(supervisor, KEY, 0)
        assert asked == [KEY]
        assert not supervisor.connected
        with pytest.raises(ShimUnavailable) as raised:
            await repeatable.kill(supervisor, KEY, 0)
        assert not isinstance(raised.value, NoAnswer)
        assert asked == [KEY]


class Owner:
    """An owner of a link that only hears of its loss."""

    lost = False

    def on_link_lost(self) -> None:
        self.lost = True


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[ShimLink, socket.socket, Owner]]:
    """Yield a link whose shim is a socket of the test, which has read the greeting."""
    ours, theirs = socket.socketpair()
    theirs.sendall(GREETED)
    owner = Owner()
    link = await ShimLink.open(ours, cast("ShimEvents", owner), LIMITS.as_settings(), ())
    (size,) = struct.unpack("<I", theirs.recv(4))
    assert len(theirs.recv(size + 1)) == size + 1
    try:
        yield link, theirs, owner
    finally:
        theirs.close()
        link.close()


async def failure(call: Awaitable[Any]) -> type[Exception]:
    with pytest.raises(LINK_BROKE) as raised:
        await call
    return raised.type


async def test_a_shim_that_takes_no_more_requests_still_answers_those_it_has() -> None:
    async with linked() as (link, shim, owner):
        first = asyncio.create_task(link.kill(KEY))
        await asyncio.sleep(0)
        shim.shutdown(socket.SHUT_RD)
        second = asyncio.create_task(link.kill(KEY))
        await asyncio.sleep(0)
        assert not link.connected
        third = asyncio.create_task(link.kill(KEY))
        ((_, request),) = decoded(shim.recv(1 << 12))
        shim.sendall(reply(request))
        shim.close()
        assert (await first).is_gone
        assert await failure(second) is await failure(third) is NotSent
        assert owner.lost


async def test_what_a_dead_shim_had_not_got_whole_is_not_done() -> None:
    async with linked() as (link, shim, _):
        small = asyncio.create_task(link.kill(KEY))
        large = asyncio.create_task(link.write_stdin(1, bytes(64 << 20)))  # more than the kernel takes on its way
        behind = asyncio.create_task(link.kill(KEY))
        await asyncio.sleep(0)
        shim.close()
        assert await failure(small) is ShimLost
        assert await failure(large) is await failure(behind) is NotSent
