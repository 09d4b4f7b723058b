"""A line that comes in parts: followers see each part at once and no cut character; to all others it is one line."""

import json
import signal
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import pytest

from harness.http_client import Event, parse_events
from tests.support.daemon import Daemon

LINES = [f"{n:04d} Grüße, мир, 世界 😀{'é' * (n % 7)}" for n in range(1000)]
TEXT = "".join(line + "\n" for line in LINES)
BLOCK_BYTES = 4096
# Prints its argument as a program does that buffers blocks, and waits for a line of input after each of the first few.
BLOCKS = """
import sys
data, size, pauses = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
for start in range(0, len(data), size):
    sys.stdout.buffer.write(data[start : start + size])
    sys.stdout.buffer.flush()
    if start < pauses * size:
        sys.stdin.readline()
"""
# Writes each line of its input, without the end of the line, to the stream that its first character names.
SAY = """
import os, sys
for line in sys.stdin:
    os.write(int(line[0]), line[1:-1].encode().decode("unicode_escape").encode("latin-1"))
"""


async def say(daemon: Daemon, process: dict[str, Any], text: str) -> None:
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=text.encode() + b"\n")


async def said(daemon: Daemon, stream: AsyncGenerator[Event, None], process: dict[str, Any], text: str) -> Event:
    """Let the process write something, and return the event with it."""
    await say(daemon, process, text)
    return await anext(stream)


async def ndjson(daemon: Daemon, process: dict[str, Any], stream: str = "output", query: str = "") -> list[Any]:
    path = f"/processes/{process['id']}/{stream}{query}"
    answer = await daemon.client.request("GET", path, headers={"Accept": "application/x-ndjson"})
    assert answer.status == 200
    return [(row["id"], row["line"]) for row in map(json.loads, answer.body.splitlines())]


async def waited(daemon: Daemon, process: dict[str, Any], pattern: str, query: str = "") -> tuple[Any, Any]:
    path = f"/processes/{process['id']}/wait?until=output&timeout=0.3&pattern={quote(pattern)}{query}"
    answer = await daemon.call("GET", path, 200)
    return answer["seq"], answer["line"]


async def test_lines_of_a_program_that_buffers_blocks_are_whole(daemon: Daemon) -> None:
    """The blocks end within lines and characters, and their rest comes later than an unfinished line waits."""
    data = TEXT.encode()
    pauses = 6
    process = await daemon.python(BLOCKS, TEXT, str(BLOCK_BYTES), str(pauses), stdin_mode="pipe")
    stream = daemon.follow(process)
    live, parts = "", 0
    for end in range(BLOCK_BYTES, (pauses + 1) * BLOCK_BYTES, BLOCK_BYTES):
        shown = data[:end].decode(errors="ignore")
        assert not shown.endswith("\n")
        while len(live) < len(shown):
            live += (await anext(stream)).data["line"]
        assert live == shown
        parts += 1
        await say(daemon, process, "")
    async for event in stream:
        live += event.data.get("line", "")
    assert live == TEXT
    replay = (await daemon.drained(process))[:-1]
    assert "".join(event.data["line"] for event in replay) == TEXT
    assert [event.id for event in replay] == list(range(1, 1000 + parts + 1))
    assert await daemon.lines(process) == LINES
    assert await daemon.lines(process, query="?tail=2") == LINES[-2:]
    assert [line for _, line in await ndjson(daemon, process)] == [line + "\n" for line in LINES]
    assert await daemon.raw(process) == data
    assert (await daemon.get(process))["output"]["lines"] == 1000
    path = f"/search?process={process['id']}&order=oldest&limit=1000&q={quote('世界 😀')}"
    found = await daemon.call("GET", path, 200)
    assert [match["line"] for match in found["matches"]] == LINES
    for query in (
        "SELECT count(*), sum(line LIKE '%мир, 世界 😀%') FROM output_lines",
        "SELECT lines, lines FROM processes",
    ):
        assert daemon.sql(query) == [(1000, 1000)]


async def test_a_line_goes_on_after_the_daemon_was_killed(daemon: Daemon) -> None:
    process = await daemon.python(SAY, stdin_mode="pipe")
    stream = daemon.follow(process)
    assert (await said(daemon, stream, process, r"1one\ntwo \xe2\x82")).data["line"] == "one\n"
    assert (await anext(stream)).data["line"] == "two "
    assert (await said(daemon, stream, process, "2warning: ")).id == 3
    await stream.aclose()
    assert await daemon.lines(process) == ["one", "two ", "warning: "]
    await daemon.stop(signal.SIGKILL)
    await daemon.start()
    stream = daemon.follow(process, **{"Last-Event-ID": "2"})
    assert (await anext(stream)).data["line"] == "warning: "
    assert (await said(daemon, stream, process, r"1\xac")).data["line"] == "€"
    await stream.aclose()
    await daemon.stop()
    await daemon.start()
    await say(daemon, process, r"1 5\nthree")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await ndjson(daemon, process) == [(1, "one\n"), (3, "warning: "), (5, "two € 5\n"), (6, "three")]
    assert [(event.id, event.data["line"]) for event in (await daemon.drained(process))[:-1]] == [
        (1, "one\n"),
        (2, "two "),
        (3, "warning: "),
        (4, "€"),
        (5, " 5\n"),
        (6, "three"),
    ]
    assert daemon.sql("SELECT lines FROM processes") == [(4,)]
    tail = [event.data.get("line") async for event in daemon.follow(process, query="?tail=2")]
    assert tail == ["€", " 5\n", "three", None]


async def test_readers_get_a_line_with_its_last_part(daemon: Daemon) -> None:
    """Live, with lines of the other stream in between: lists, pages, ranges, searches and waits."""
    process = await daemon.python(SAY, stdin_mode="pipe")
    stream = daemon.follow(process)
    for text in ("1name? ", r"2one\n", "1Bo", r"2two\n", "2three"):
        await said(daemon, stream, process, text)
    assert await daemon.lines(process) == ["one", "name? Bo", "two", "three"]
    assert await waited(daemon, process, "? B") == (3, "name? Bo")
    await said(daemon, stream, process, r"1b\nnext\n")
    everything = [(2, "one\n"), (4, "two\n"), (5, "three"), (6, "name? Bob\n"), (7, "next\n")]
    assert await ndjson(daemon, process) == everything
    pages: list[Any] = []
    while page := await ndjson(daemon, process, query=f"?limit=1&after={pages[-1][0] if pages else 0}"):
        pages += page
    assert pages == everything
    assert await ndjson(daemon, process, query="?after=2") == everything[1:]
    assert (await ndjson(daemon, process, query="?after=3"))[2] == (6, "b\n")  # who knows part 3 needs no more
    assert await ndjson(daemon, process, query="?tail=3") == everything[2:]
    assert await ndjson(daemon, process, "stdout", "?tail=2") == everything[3:]
    assert await daemon.raw(process, query="?tail=2") == b"name? Bob\nnext\n"
    assert await daemon.lines(process, query="?grep=? Bob&limit=1") == ["name? Bob"]
    assert (await daemon.get(process))["output"] | {"bytes": 0, "last_at": 0} == {
        "lines": 5,
        "bytes": 0,
        "first_seq": 1,
        "last_seq": 7,
        "last_at": 0,
        "trimmed": None,
    }
    for order in ("newest", "oldest"):
        found = await daemon.call("GET", f"/search?q={quote('e? Bob')}&order={order}", 200)
        assert [(match["seq"], match["line"]) for match in found["matches"]] == [(6, "name? Bob")]
    assert await waited(daemon, process, "? Bob") == (6, "name? Bob")
    assert await waited(daemon, process, "e? Bob", "&after=5") == (6, "name? Bob")
    assert await waited(daemon, process, "Bob", "&after=3") == (None, None)
    assert await waited(daemon, process, "b", "&after=3") == (6, "b")


@pytest.mark.parametrize(("ending", "shown"), [(r"\xc3", "\ufffd"), (r"\xff", "\ufffd"), ("", "")])
async def test_a_character_that_never_ends_comes_with_the_end(daemon: Daemon, ending: str, shown: str) -> None:
    process = await daemon.python(SAY, stdin_mode="pipe")
    stream = daemon.follow(process)
    await said(daemon, stream, process, f"1prompt {ending}")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.lines(process) == [f"prompt {shown}"]
    assert "".join(event.data["line"] for event in (await daemon.drained(process))[:-1]) == f"prompt {shown}"


async def test_a_run_shows_whole_lines_and_ends_with_its_command(daemon: Daemon) -> None:
    """Neither a part nor an incomplete character, which a child may still finish, keeps the stream open."""
    script = r"printf 'one\npa'; sleep 0.3; printf 'rt\nlast \303'; echo $$ >&2; sleep 1000 & exit"
    async with daemon.session.post(
        f"{daemon.url}/api/v1/processes/run", json={"command": "sh", "args": ["-c", script]}
    ) as response:
        events, _ = parse_events(await response.read())
    first, *lines, last = [event.data for event in events]
    assert [event["line"] for event in lines if event["stream"] == "stdout"][:3] == ["one", "part", "last "]
    assert last["exit_code"] == 0
    await daemon.call("DELETE", f"/processes/{first['id']}", 204)


async def test_an_incomplete_character_holds_up_no_other_stream(daemon: Daemon) -> None:
    """The shim keeps its bytes, however long. What comes after it on the other stream is stored and freed."""
    program = (
        "import os, sys\n"
        r"os.write(1, b'price: \xe2'); os.write(1, b'\x82')" + "\n"
        "sys.stdin.readline()\n"
        "block = b'y' * 99 + b'\\n'\n"
        "for _ in range(300):\n    os.write(2, 1000 * block)\n"
        "sys.stdin.readline()\n"
        r"os.write(1, b'\xac')"
    )
    process = await daemon.python(program, stdin_mode="pipe")
    assert (await anext(daemon.follow(process))).data["line"] == "price: "
    await say(daemon, process, "")
    await daemon.wait_for_lines(process, 300_001)
    await say(daemon, process, "")
    await daemon.ended(process)
    assert await daemon.lines(process, "stdout") == ["price: €"]
