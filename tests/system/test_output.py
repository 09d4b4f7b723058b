"""Output as processes really write it: every byte, in order, against the exact form."""

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

MIB = 1 << 20


async def written(daemon: Daemon, data: bytes, tmp_path: Path) -> dict[str, object]:
    """Have a process write `data` to its standard output, and wait for its end."""
    source = tmp_path / "data"
    source.write_bytes(data)
    process = await daemon.run("cat", str(source))
    await daemon.ended(process)
    return process


SHAPES: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", []),
    "plain": (b"one\ntwo\n", ["one", "two"]),
    "last line without newline": (b"one\ntwo", ["one", "two"]),
    "empty lines": (b"\n\n\n", ["", "", ""]),
    "one empty line": (b"\n", [""]),
    "CRLF and lone CR": (b"a\r\nb\rc\n", ["a\r", "b\rc"]),
    "NUL": (b"nul\0inside\n\0\n", ["nul\0inside", "\0"]),
    "invalid UTF-8": (b"\xff\xfe bad \xc3(\n\x80\n", ["\ufffd\ufffd bad \ufffd(", "\ufffd"]),
    "ANSI": (b"\x1b[1;31mred\x1b[0m\n", ["\x1b[1;31mred\x1b[0m"]),
    "other line separators": ("a\u2028b\x0bc\x85d\x1ce\n".encode(), ["a\u2028b\x0bc\x85d\x1ce"]),
    "escapes": (
        'quote" back\\slash\ttab \\n {}[],\n😀 ü\n'.encode(),
        ['quote" back\\slash\ttab \\n {}[],', "😀 ü"],
    ),
    "what the encoder cuts at": (b'","\n"\n', ['","', '"']),
}


async def test_all_forms_of_output_agree(daemon: Daemon, tmp_path: Path) -> None:
    for shape, (data, lines) in SHAPES.items():
        process = await written(daemon, data, tmp_path)
        assert await daemon.raw(process) == data, shape
        assert await daemon.raw(process, "stdout") == data, shape
        assert await daemon.raw(process, "stderr") == b"", shape
        assert await daemon.lines(process) == lines, shape
        events = await daemon.drained(process)
        assert [event.kind for event in events] == ["output"] * len(lines) + ["eof"], shape
        assert [event.id for event in events[:-1]] == list(range(1, len(lines) + 1)), shape
        assert "".join(event.data["line"] for event in events[:-1]) == data.decode(errors="replace"), shape
        assert {event.data["stream"] for event in events[:-1]} <= {"stdout"}, shape
        summary = (await daemon.get(process))["output"]
        last_at = summary.pop("last_at")
        assert last_at == (events[-2].data["timestamp"] if lines else None), shape
        assert summary == {
            "lines": len(lines),
            "bytes": len(data),
            "first_seq": 1 if lines else 0,
            "last_seq": len(lines),
            "trimmed": None,
        }, shape


async def test_random_bytes_come_back_exactly(daemon: Daemon, tmp_path: Path) -> None:
    data = random.Random(7).randbytes(5 * MIB)
    process = await written(daemon, data, tmp_path)
    assert await daemon.raw(process) == data
    assert (await daemon.get(process))["output"]["bytes"] == len(data)


async def test_a_million_short_lines_are_stored(daemon: Daemon) -> None:
    process = await daemon.run("seq", "1000000")
    ended = await daemon.ended(process)
    assert ended["output"]["lines"] == 1_000_000
    expected = "".join(f"{number}\n" for number in range(1, 1_000_001)).encode()
    assert await daemon.raw(process) == expected
    tail = await daemon.lines(process, query="?tail=3")
    assert tail == ["999998", "999999", "1000000"]
    assert [e.id async for e in daemon.follow(process, query="?after=999998")] == [999_999, 1_000_000, None]


@pytest.mark.long
async def test_a_line_of_200_mb_is_stored(daemon: Daemon) -> None:
    size = 200_000_000
    process = await daemon.python(
        "import sys\nblock = bytes(range(32, 127)) * 10000\nleft = int(sys.argv[1])\n"
        "while left:\n    left -= sys.stdout.buffer.write(block[:left])\nsys.stdout.buffer.write(b'\\n')",
        str(size),
    )
    await daemon.ended(process)
    raw = await daemon.raw(process)
    block = bytes(range(32, 127)) * 10000
    expected = (block * (size // len(block) + 1))[:size] + b"\n"
    assert len(raw) == len(expected)
    assert hashlib.sha256(raw).digest() == hashlib.sha256(expected).digest()
    assert daemon.sql("SELECT max(length(line)), sum(length(line)) FROM output_lines") == [(MIB, size)]
    lines = [event async for event in daemon.follow(process, query="?tail=1")]
    assert lines[0].data["line"].endswith("\n")


async def test_parts_of_an_over_long_line_do_not_cut_characters(daemon: Daemon, tmp_path: Path) -> None:
    data = ("x" + "😀" * (2 * MIB // 4) + "\n").encode()
    process = await written(daemon, data, tmp_path)
    events = [e for e in await daemon.drained(process) if e.kind == "output"]
    assert "".join(event.data["line"] for event in events).encode() == data
    assert all(len(event.data["line"].encode()) <= MIB + 1 for event in events)


async def test_a_prompt_is_followed_before_its_line_ends(daemon: Daemon) -> None:
    process = await daemon.run("sh", "-c", "printf 'name? '; read name; echo hello $name", stdin_mode="pipe")
    stream = daemon.follow(process)
    prompt = await anext(stream)
    assert (prompt.id, prompt.data["line"]) == (1, "name? ")
    assert (await daemon.get(process))["status"] == "running"
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"you\n")
    rest = await anext(stream)
    assert (rest.id, rest.data["line"]) == (2, "hello you\n")
    assert (await anext(stream)).kind == "eof"
    assert await daemon.raw(process) == b"name? hello you\n"


async def test_a_line_written_in_parts_is_one_line(daemon: Daemon) -> None:
    process = await daemon.python(
        "import time\nfor part in ('one', ' and', ' two\\n'):\n"
        "    print(part, end='', flush=True)\n    time.sleep(0.01)"
    )
    events = await daemon.drained(process)
    assert "".join(event.data["line"] for event in events[:-1]) == "one and two\n"
    assert await daemon.lines(process) == ["one and two"]


async def test_a_line_in_flushed_parts_is_joined_for_readers_of_lines(daemon: Daemon) -> None:
    process = await daemon.run("sh", "-c", "printf 'a'; read x; echo b; echo c", stdin_mode="pipe")
    await anext(daemon.follow(process))
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await daemon.ended(process)
    assert await daemon.lines(process) == ["ab", "c"]


async def test_both_streams_share_one_order(daemon: Daemon) -> None:
    process = await daemon.python(
        "import os, sys\nfor i in range(200):\n    os.write(1 + i % 2, b'%d\\n' % i)\n    sys.stdin.readline()",
        stdin_mode="pipe",
    )
    seen = []
    async for event in daemon.follow(process):
        if event.kind == "eof":
            break
        seen.append((event.id, event.data["line"], event.data["stream"]))
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    assert seen == [(i + 1, f"{i}\n", ("stdout", "stderr")[i % 2]) for i in range(200)]
    assert await daemon.raw(process, "stdout") == b"".join(b"%d\n" % i for i in range(0, 200, 2))
    assert await daemon.raw(process, "stderr") == b"".join(b"%d\n" % i for i in range(1, 200, 2))
    odd = [event.id for event in await daemon.drained(process, "stderr")][:-1]
    assert odd == list(range(2, 201, 2))


async def test_floods_on_both_streams_keep_each_streams_order(daemon: Daemon) -> None:
    process = await daemon.python(
        "import os, threading\n"
        "def write(fd):\n"
        "    for i in range(200):\n"
        "        data = b''.join(b'%d %d\\n' % (fd, j) for j in range(i * 500, i * 500 + 500))\n"
        "        while data:\n"
        "            data = data[os.write(fd, data):]\n"
        "threads = [threading.Thread(target=write, args=(fd,)) for fd in (1, 2)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]"
    )
    await daemon.ended(process)
    for fd, stream in ((1, "stdout"), (2, "stderr")):
        assert await daemon.raw(process, stream) == b"".join(b"%d %d\n" % (fd, i) for i in range(100_000))
    events = await daemon.drained(process)
    assert [event.id for event in events[:-1]] == list(range(1, 200_001))


async def test_the_standard_streams_can_be_opened_by_path(daemon: Daemon) -> None:
    process = await daemon.sh(
        "echo one > /dev/stdout; echo two > /dev/stderr; echo three >> /dev/stdout; echo four > /dev/fd/2"
    )
    ended = await daemon.ended(process)
    assert ended["exit_code"] == 0
    assert await daemon.raw(process, "stdout") == b"one\nthree\n"
    assert await daemon.raw(process, "stderr") == b"two\nfour\n"


async def test_a_grandchild_holds_the_pipe_after_its_parents_end(daemon: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    process = await daemon.sh(f"(read x < {go}; echo late) & echo early; exit 7")
    stream = daemon.follow(process)
    assert (await anext(stream)).data["line"] == "early\n"

    async def ended() -> bool:
        return bool((await daemon.get(process))["status"] == "exited")

    await eventually(ended)  # told by GET, while the stream goes on
    assert (await daemon.get(process))["exit_code"] == 7
    await asyncio.to_thread(go.write_text, "\n")
    assert (await anext(stream)).data["line"] == "late\n"
    assert (await anext(stream)).kind == "eof"


async def test_discarded_output_is_not_kept(daemon: Daemon) -> None:
    process = await daemon.sh("echo out; echo err >&2", stdout_mode="discard")
    await daemon.ended(process)
    assert await daemon.raw(process) == b"err\n"
    process = await daemon.sh("echo out; echo err >&2", stdout_mode="discard", stderr_mode="discard")
    events = await daemon.drained(process)
    assert [event.kind for event in events] == ["eof"]


async def test_a_process_may_close_its_output(daemon: Daemon) -> None:
    process = await daemon.sh("echo last; exec 1>&- 2>&-; read x; exit 4", stdin_mode="pipe")
    stream = daemon.follow(process)
    assert (await anext(stream)).data["line"] == "last\n"
    assert (await daemon.get(process))["status"] == "running"
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    assert (await anext(stream)).kind == "eof"
    assert (await daemon.ended(process))["exit_code"] == 4


async def test_lines_have_the_times_of_their_reading(daemon: Daemon) -> None:
    process = await daemon.python(
        "import time\nfor i in range(5):\n    print(time.time_ns() // 10**6, flush=True)\n    time.sleep(0.03)"
    )
    for event in (await daemon.drained(process))[:-1]:
        assert 0 <= event.data["timestamp"] - int(event.data["line"]) < 5000


async def test_each_range_selects_its_lines(daemon: Daemon) -> None:
    process = await daemon.sh("seq 1 10; seq 11 15 >&2")
    await daemon.ended(process)
    assert await daemon.lines(process, query="?after=3&limit=2") == ["4", "5"]
    assert await daemon.lines(process, query="?tail=2") == ["14", "15"]
    assert await daemon.lines(process, "stdout", "?tail=2") == ["9", "10"]
    assert await daemon.lines(process, query="?tail=0") == []
    assert await daemon.lines(process, query="?tail=1000") == [str(i) for i in range(1, 16)]
    assert await daemon.lines(process, query="?grep=1&limit=3") == ["1", "10", "11"]
    assert await daemon.raw(process, query="?after=13") == b"14\n15\n"
    started = process["started_at"]
    assert await daemon.lines(process, query=f"?until={started - 1000}") == []
    assert len(await daemon.lines(process, query=f"?since={started - 1000}")) == 15
    async with daemon.session.get(
        f"{daemon.url}/api/v1/processes/{process['pid']}/output?tail=1", headers={"Accept": "application/x-ndjson"}
    ) as response:
        event = await response.json(content_type="application/x-ndjson")
    assert {key: event[key] for key in ("id", "line", "stream")} == {"id": 15, "line": "15\n", "stream": "stderr"}
