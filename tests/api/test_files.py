"""Files of the machine: read, written, listed and deleted by path."""

import asyncio
import contextlib
import functools
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.http_client import Answer
from outlast.files import reading
from tests.support.disk import mounted

from .server import BEARER, Server, serving, until
from .stub import StubManager

LARGE = os.urandom(5 << 20) + b"the end"
NOBODY = 65534
AUTHORIZED = f"Authorization: {BEARER['Authorization']}"


async def ask(server: Server, method: str, path: Path | str, data: bytes | None = None, what: str = "") -> Answer:
    """Make a call about a file."""
    body = None if data is None else io.BytesIO(data)  # aiohttp warns of large bodies that are plain bytes
    return await server.ask(method, f"/api/v1/files{what}?path={quote(str(path))}", data=body)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("contents", [b"", b"a\0b\xff\r\n", LARGE], ids=["empty", "binary", "large"])
async def test_what_is_written_is_read(server: Server, tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "a folder" / "that is new" / "\u6587 #1?.txt"
    assert (await ask(server, "PUT", path, contents)).status == 204
    assert path.read_bytes() == contents
    answer = await ask(server, "GET", path)
    assert (answer.status, answer.body == contents) == (200, True)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Length"] == str(len(contents))
    assert answer.headers["Content-Disposition"] == "attachment"
    assert names(path.parent) == [path.name]


async def test_a_head_has_the_size_only(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    answer = await ask(server, "HEAD", tmp_path / "file")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", str(len(LARGE)))


async def test_files_without_a_size_are_read_to_their_end(server: Server) -> None:
    answer = await ask(server, "GET", f"/proc/{os.getpid()}/cmdline")
    assert answer.body == Path("/proc/self/cmdline").read_bytes()


async def test_files_with_a_false_size_are_read_to_their_end(server: Server) -> None:
    path = Path("/sys/class/net/lo/mtu")
    assert path.stat().st_size != len(path.read_bytes())
    answer = await ask(server, "GET", path)
    assert (answer.status, answer.body) == (200, path.read_bytes())


async def test_what_the_kernel_does_not_read_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(server, "GET", f"/proc/{os.getpid()}/mem")
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert "Input/output error" in answer.json["error"]
    assert not caplog.records


async def test_a_new_file_replaces_the_old_one_at_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o751)
    _, writer = await server.connect(
        f"PUT /api/v1/files?path={path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\nContent-Length: 6\r\n\r\nnew".encode()
    )
    await until(lambda: len(names(tmp_path)) == 2)
    assert path.read_text() == "old"
    writer.write(b"est")
    await until(lambda: path.read_text() == "newest")
    assert stat.S_IMODE(path.stat().st_mode) == 0o751
    assert names(tmp_path) == ["file"]


def is_being_written(path: Path) -> bool:
    return any(path.parent.glob(f".{path.name}.*.part"))


async def test_an_upload_that_is_broken_off_changes_nothing(server: Server, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("old")
    for path in (old, tmp_path / "new" / "folder" / "file"):
        _, writer = await server.connect(
            f"PUT /api/v1/files?path={path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n"
            "Content-Length: 6\r\n\r\nnew".encode()
        )
        await until(functools.partial(is_being_written, path))
        writer.transport.abort()
        await until(lambda: names(tmp_path) == ["old"])
    assert old.read_text() == "old"


async def test_a_link_is_followed(server: Server, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    assert (await ask(server, "PUT", link, b"written")).status == 204
    assert link.is_symlink()
    assert target.read_text() == "written"
    assert (await ask(server, "GET", link)).body == b"written"
    assert (await ask(server, "DELETE", link)).status == 204
    assert names(tmp_path) == ["target"]


async def test_a_folder_is_listed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("four")
    (tmp_path / "a").mkdir()
    (tmp_path / "to folder").symlink_to("a")
    (tmp_path / "to nothing").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).write_text("")
    os.utime(tmp_path / "b", ns=(0, 1_234_567_890_123_456))
    answer = (await ask(server, "GET", tmp_path, what="/list")).json
    assert answer["path"] == str(tmp_path)
    found = {one["name"]: (one["is_dir"], one["size"]) for one in answer["entries"]}
    assert found == {
        "a": (True, None),
        "b": (False, 4),
        "pipe": (False, None),
        "to folder": (True, None),
        "to nothing": (False, None),
        "\ufffd": (False, 0),
    }
    assert [one["name"] for one in answer["entries"]] == sorted(found)
    assert next(one["modified_at"] for one in answer["entries"] if one["name"] == "b") == 1_234_567_890


async def test_what_is_deleted_while_a_folder_is_listed_is_left_out(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").touch()
    (tmp_path / "goes").touch()

    def read_names(found: Iterator[os.DirEntry[str]], _: int) -> list[os.DirEntry[str]]:
        entries = list(found)
        (tmp_path / "goes").unlink()
        return entries

    monkeypatch.setattr(reading, "islice", read_names)
    answer = await ask(server, "GET", tmp_path, what="/list")
    assert [one["name"] for one in answer.json["entries"]] == ["stays"]


async def test_a_folder_with_too_many_entries_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_ENTRIES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    answer = await ask(server, "GET", tmp_path, what="/list")
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert "more than 2 entries" in answer.json["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("path", "phrase"),
    [
        ("file", "must be an absolute path"),
        ("", "must be an absolute path"),
        ("/a%00b", "must not contain a NUL"),
        ("{folder}", "is a folder"),
        ("{folder}/pipe", "is a device, a pipe or a socket"),
        ("/dev/null", "is a device, a pipe or a socket"),
        ("{folder}/loop/x", "Too many levels of symbolic links"),
        ("{folder}/" + 300 * "n", "File name too long"),
    ],
)
async def test_impossible_paths_are_refused(
    server: Server, tmp_path: Path, method: str, path: str, phrase: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    before = names(tmp_path)
    url = f"/api/v1/files?path={path.format(folder=tmp_path)}"
    answer = await server.ask(method, url, data=b"x" if method == "PUT" else None)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST"), answer.json
    assert phrase in answer.json["error"]
    assert names(tmp_path) == before


async def test_a_missing_body_is_no_empty_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    reader, _ = await server.connect(
        f"PUT /api/v1/files?path={path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n\r\n".encode()
    )
    assert b" 400 " in await reader.readline()
    assert path.read_text() == "old"


@pytest.mark.parametrize(("method", "what"), [("GET", ""), ("DELETE", ""), ("GET", "/list")])
@pytest.mark.parametrize("name", ["missing", "missing/file", "file/below"])
async def test_what_is_missing_is_404(server: Server, tmp_path: Path, method: str, what: str, name: str) -> None:
    (tmp_path / "file").touch()
    answer = await ask(server, method, tmp_path / name, what=what)
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    assert str(tmp_path / name) in answer.json["error"]


async def test_a_path_through_a_file_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = await ask(server, "PUT", tmp_path / "file" / "below" / "x", b"x")
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert "a part of it is a file" in answer.json["error"]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Let all threads of this process act as a user without rights."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(("method", "what"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/list")])
async def test_what_the_user_may_not_do_is_403(server: Server, tmp_path: Path, method: str, what: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0o700)
    with as_nobody():
        answer = await ask(
            server, method, folder / "file" if not what else folder, b"x" if method == "PUT" else None, what
        )
    assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")
    assert "the daemon's user may not" in answer.json["error"]


async def test_a_full_disk_keeps_the_old_file(server: Server, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 2) as disk:
        path = disk.path / "file"
        path.write_text("old")
        answer = await ask(server, "PUT", path, LARGE)
        assert (answer.status, answer.json["code"]) == (507, "NO_SPACE")
        assert path.read_text() == "old"
        assert names(disk.path) == ["file"]
        assert (await ask(server, "PUT", path, b"new")).status == 204


async def test_a_file_that_becomes_shorter_is_no_whole_answer(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    size = 64 << 20
    with path.open("wb") as file:
        file.truncate(size)
    reader, _ = await server.connect(
        f"GET /api/v1/files?path={path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    os.truncate(path, 1 << 20)
    received = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while data := await reader.read(1 << 20):
                received += len(data)
    assert received < size


async def test_the_setting_turns_files_off(manager: StubManager, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with serving(manager, has_files=False) as server:
        for method, what in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/list")):
            answer = await ask(server, method, tmp_path / "file", what=what)
            assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")
            assert "`files` is off" in answer.json["error"]
    assert names(tmp_path) == ["file"]


async def test_many_files_are_written_at_once(server: Server, tmp_path: Path) -> None:
    answers = await asyncio.gather(*(ask(server, "PUT", tmp_path / str(n), LARGE[:n]) for n in range(50)))
    assert {one.status for one in answers} == {204}
    assert [len((tmp_path / str(n)).read_bytes()) for n in range(50)] == list(range(50))
