"""Several processes in one stream of the client: over kills, by tag, and from what a server sends."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from outlast.client import Disconnected, Ended, Gap, Line, Member, NotFound
from outlast.client.group import FollowGroup
from tests.client_library.threaded import connect
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

PRINTS = "i=0; while [ ! -e {stop} ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit {code}"


@pytest.mark.slow
async def test_several_are_followed_over_kills(form: str, daemon: Daemon, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    places: list[Mapping[str, int]] = []
    texts: dict[str | None, list[str]] = defaultdict(list)
    ends = {}
    async with connect(form, daemon) as ol:
        refs = [
            (await ol.start("sh", "-c", PRINTS.format(stop=stop, code=code), name=f"p{code}", restart="never")).id
            for code in range(2)
        ]

        async def follow() -> None:
            async for member, item in ol.follow(refs, on_reconnect=places.append):
                if isinstance(item, Ended):
                    ends[member.name] = item.exit_code
                else:
                    assert isinstance(item, Line)
                    texts[member.name].append(item.text)

        following = asyncio.create_task(follow())
        for number in range(3):
            await eventually(lambda: len(texts) == 2)
            await daemon.kill()
            await daemon.start()
            await eventually(reconnected(places, number + 1))
        stop.touch()
        await asyncio.wait_for(following, DEADLINE_S)
        assert ends == {"p0": 0, "p1": 1}
        assert set(places[-1]) <= set(refs)
        for ref, name in zip(refs, ("p0", "p1"), strict=True):
            assert texts[name] == (await daemon.raw({"id": ref})).decode().split()


def reconnected(places: list[Mapping[str, int]], times: int) -> Callable[[], bool]:
    return lambda: len(places) >= times


async def test_processes_with_a_tag_join(form: str, daemon: Daemon) -> None:
    async with connect(form, daemon) as ol:
        first = await ol.start("sh", "-c", "echo one; sleep 1000", tags={"a": "b"})
        found = []
        async with contextlib.aclosing(ol.follow(tags={"a": "b"})) as items:
            async for member, item in items:
                if isinstance(item, Line):
                    found.append((member.id, item.text))
                    if item.text == "one":
                        second = await ol.start("sh", "-c", "echo two", tags={"a": "b"})
                elif isinstance(item, Ended):
                    break
        assert found == [(first.id, "one"), (second.id, "two")]
        assert (member.id, member.name) == (second.id, None)


async def test_a_process_that_is_purged_leaves_and_one_that_is_not_there_is_told(form: str, daemon: Daemon) -> None:
    async with connect(form, daemon) as ol:
        process = await ol.start("sh", "-c", "echo one; sleep 1000")
        found = []
        async for item in ol.follow([process.id]):
            found.append(item)
            if isinstance(item[1], Line):
                await process.remove()
        member, ended = found[-1]
        assert member == Member(process.id, process.info.handle, None)
        assert isinstance(ended, Ended)
        assert ended.reason in {"signaled", "purged"}  # whether the stream sees the end before the purge is open
        with pytest.raises(NotFound):
            _ = [item async for item in ol.follow(["nobody"])]


def event(id_: str, kind: str, **data: Any) -> bytes:
    return f"id: {id_}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def line(id_: str, process_id: str, seq: int, text: str) -> bytes:
    about = {"seq": seq, "process_id": process_id, "name": None, "timestamp": 5, "stream": "stdout"}
    return event(id_, "output", **about, line=text)


def test_a_stream_goes_on_behind_the_last_event_and_shows_nothing_twice() -> None:
    places: list[Mapping[str, int]] = []
    group = FollowGroup({"process": ["a", "b"]}, None, places.append)
    members = [{"handle": number, "process_id": id_, "name": id_, "seq": 0} for number, id_ in enumerate("AB", 1)]
    joined = event("1:0,2:0", "joined", processes=members)
    assert "Last-Event-ID" not in group.request().headers
    group.opened(200, {}, b"")
    data = joined + b": heartbeat\n\n" + line("1:1,2:0", "A", 1, "x\n") + line("1:1,2:1", "B", 1, "part")
    found = [item for piece in (data[:70], data[70:99], data[99:], b"id: 1:2,2") for item in group.feed(piece)]
    a, b = Member("A", 1, "A"), Member("B", 2, "B")
    assert found == [(a, Line(1, "x", "stdout", 5)), (b, Line(1, "part", "stdout", 5, complete=False))]
    with pytest.raises(Disconnected):
        group.ended()
    assert group.request().headers["Last-Event-ID"] == "1:1,2:1"
    group.opened(200, {}, b"")
    assert places == [{"A": 1, "B": 1}]
    gap = event("1:7,2:1", "gap", process_id="A", name="A", seq=7, **{"from": 7, "to": 7}, reason="lost")
    end = event("2:1", "end", process_id="A", name="A", reason="signaled", exit_code=None, signal=9)
    found = group.feed(joined + line("1:1,2:1", "A", 1, "x\n") + gap + end + event("", "purged", handle=9))
    assert found == [(a, Gap(7, 7, "lost")), (a, Ended("signaled", None, 9))]
    assert group.feed(event("2:1-eof", "purged", handle=2) + event("-eof", "eof")) == [(b, Ended("purged", None, None))]
    assert group.is_over
