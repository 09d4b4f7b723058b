"""The unix socket of the API: whose it is, who may connect, and what is left of it."""

import asyncio
import contextlib
import grp
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from outlast.wire.api_socket import file_id
from tests.support.daemon import Daemon, outlast
from tests.support.waiting import DEADLINE_S

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
async def daemon(state_dir: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(state_dir, OUTLAST_TOKEN="secret")
    try:
        yield daemon
    finally:
        await daemon.end_everything()


async def health(path: Path) -> bytes:
    """Ask for the health over the socket, and return the line with the status."""
    reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), DEADLINE_S)
    writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    return answer.split(b"\r\n")[0]


async def refused(folder: Path, path: Path) -> str:
    """Try to serve at the socket from another state folder, and return what is said."""
    code, output = await outlast("serve", "--state-dir", str(folder), "--listen", f"unix:{path}")
    await Daemon(folder).end_everything()
    assert (code, "Traceback" in output) == (1, False)
    return output


async def test_a_second_daemon_leaves_the_socket_of_the_first_alone(daemon: Daemon, path: Path, tmp_path: Path) -> None:
    await daemon.start("--listen", f"unix:{path}")
    assert f"another program listens on {path}" in await refused(tmp_path / "other", path)
    assert await health(path) == b"HTTP/1.1 200 OK"


async def test_the_socket_of_a_dead_daemon_is_replaced(daemon: Daemon, path: Path) -> None:
    await daemon.start("--listen", f"unix:{path}")
    await daemon.kill()
    await daemon.start("--listen", f"unix:{path}")
    assert await health(path) == b"HTTP/1.1 200 OK"


async def test_a_socket_that_another_program_has_made_stays_at_the_end(daemon: Daemon, path: Path) -> None:
    await daemon.start("--listen", f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert await daemon.stop() == 0
        assert path.is_socket()


def _a_file(path: Path) -> None:
    path.write_text("keep")


def _a_link(path: Path) -> None:
    path.symlink_to(path.with_name("target"))
    path.with_name("target").write_text("keep")


def _a_foreign_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.chown(path, NOBODY, NOBODY)


def _a_full_socket(path: Path) -> None:
    full = socket.socket(socket.AF_UNIX)
    full.bind(str(path))
    full.listen(0)
    queued = socket.socket(socket.AF_UNIX)
    queued.connect(str(path))
    _KEPT.extend((full, queued))


_KEPT: list[socket.socket] = []


@needs_root
@pytest.mark.parametrize("make", [_a_file, _a_link, _a_foreign_socket, _a_full_socket])
async def test_what_is_not_a_dead_socket_of_this_user_stays(
    make: Callable[[Path], None], path: Path, tmp_path: Path
) -> None:
    make(path)
    before = file_id(path)
    assert str(path) in await refused(tmp_path / "other", path)
    assert file_id(path) == before
    while _KEPT:
        _KEPT.pop().close()


@needs_root
@pytest.mark.parametrize("by", ["name", "number"])
async def test_a_group_can_be_let_in(daemon: Daemon, path: Path, tmp_path: Path, by: str) -> None:
    group = grp.getgrgid(NOBODY)
    config = tmp_path / "config.toml"
    named = group.gr_name if by == "name" else group.gr_gid
    config.write_text(f'unix_socket_mode = 0o660\nunix_socket_group = "{named}"\n')
    await daemon.start("--config", str(config), "--listen", f"unix:{path}")
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, os.geteuid(), NOBODY)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('unix_socket_group = "no such group"', "there is no group 'no such group'"),
        ("unix_socket_mode = 0o1777", "must be an octal number of three digits"),
        ("unix_socket_mode = -1", "must be an octal number of three digits"),
        ('unix_socket_mode = "0660"', "must be an octal number of three digits, such as 0o660, not '0660'"),
    ],
)
async def test_wrong_access_is_reported(path: Path, tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    words = ["--state-dir", str(tmp_path / "state"), "--listen", f"unix:{path}", "--config", str(config)]
    code, output = await outlast("serve", *words)
    assert (code, says in output, path.exists()) == (1, True, False), output


async def test_a_daemon_that_opens_its_store_is_not_taken_for_dead(daemon: Daemon, path: Path, tmp_path: Path) -> None:
    await daemon.start("--listen", f"unix:{path}")
    shim_socket = daemon.state_dir / "shim.sock"
    assert daemon.process is not None
    await daemon.kill()
    with contextlib.ExitStack() as stack:
        shim_socket.unlink()
        silent = stack.enter_context(socket.socket(socket.AF_UNIX))
        silent.bind(str(shim_socket))
        silent.listen()
        await daemon.launch("--listen", f"unix:{path}")
        reached = await asyncio.wait_for(asyncio.to_thread(silent.accept), DEADLINE_S)
        stack.enter_context(reached[0])
        assert f"another program listens on {path}" in await refused(tmp_path / "other", path)
        assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        shim_socket.unlink()
