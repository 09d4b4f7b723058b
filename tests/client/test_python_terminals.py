"""Terminals, used with the official Python client as it comes from its maker."""

import pytest
from tensorlake.sandbox import Sandbox

from tests.support.waiting import eventually

from .blocking import call

# The blocking client leaves the socket of a session that has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")


async def test_a_program_runs_in_a_terminal(sandbox: Sandbox) -> None:
    seen: list[bytes] = []
    pty = await call(
        sandbox.create_pty, "sh", ["-c", "tty; stty size; read x; echo got:$x; exit 3"], on_data=seen.append
    )
    await eventually(lambda: b"24 80" in b"".join(seen))
    await call(pty.send_input, "hello\n")
    assert await call(pty.wait, 20) == 3
    assert b"".join(seen).endswith(b"got:hello\r\n")
    assert b"/dev/pts/" in b"".join(seen)
