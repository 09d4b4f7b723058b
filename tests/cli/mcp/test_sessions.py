"""Sessions of an agent over kills of the daemon, and a daemon or an SDK that is not there."""

import asyncio
import sys
from pathlib import Path

from tests.cli.commands import environment, outlast
from tests.cli.mcp.agents import agent, quoted
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S
from tests.test_import_cost import imported

TALKER = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo last"


async def test_a_wait_goes_on_over_a_kill_of_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    async with agent(daemon, cwd=tmp_path) as it:
        await it.call("start", command=TALKER, name="talker")
        await it.call("wait", ref="talker", until="output", pattern="line 3", timeout_s=DEADLINE_S)
        waiting = asyncio.create_task(it.call("wait", ref="talker", until="output", pattern="^last$", timeout_s=300))
        calls = [asyncio.create_task(it.call("logs", ref="talker", after=0, tail=2)) for _ in range(5)]
        await daemon.kill()
        (tmp_path / "stop").touch()
        late = asyncio.create_task(it.call("list"))
        await daemon.start()
        assert (await waiting).startswith("done: talker (@1)")
        assert "talker" in await late
        assert {tuple(quoted(await call)) for call in calls} == {("1 out| line 1", "2 out| line 2")}


async def test_the_next_session_finds_process_and_log_after_three_kills(daemon: Daemon, tmp_path: Path) -> None:
    async with agent(daemon, cwd=tmp_path) as it:
        await it.call("start", command=TALKER, name="talker", tags={"by": "agent"})
        await it.call("wait", ref="talker", until="output", pattern="line 3", timeout_s=DEADLINE_S)
    for _ in range(3):
        await daemon.kill()
        await daemon.start()
    async with agent(daemon) as it:
        assert "talker (@1): up" in await it.call("list")
        (tmp_path / "stop").touch()
        await it.call("wait", ref="talker", timeout_s=DEADLINE_S)
        rows: list[str] = []
        after = 0
        while page := quoted(await it.call("logs", ref="talker", after=after, tail=1000)):
            rows, after = rows + page, after + len(page)
        assert rows[-1] == f"{len(rows)} out| last"
        assert rows[:-1] == [f"{n} out| line {n}" for n in range(1, len(rows))]


async def test_a_daemon_that_is_not_there_is_named(daemon: Daemon, tmp_path: Path) -> None:
    async with agent(daemon, OUTLAST_URL=f"unix:{tmp_path}/none", OUTLAST_TOKEN="t") as it:
        text, is_error = await it.try_to("list")
        assert is_error
        assert text.endswith(f"no daemon answers at unix:{tmp_path}/none: start one with `outlast serve`")


async def test_the_server_ends_with_its_input(daemon: Daemon) -> None:
    said = await outlast(daemon, "mcp")
    assert (said.code, said.out, said.err) == (0, b"", "")


async def test_without_the_sdk_a_sentence_says_what_to_install(daemon: Daemon) -> None:
    program = "import sys; sys.modules['mcp'] = None; from outlast.cli import main; main(['mcp'])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE, env=environment(daemon), cwd=Path.cwd()
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert (
        err == b"Error: `outlast mcp` needs the protocol's SDK, version 2: install it with pip install 'outlast[mcp]'\n"
    )


def test_no_command_loads_the_sdk_before_it_serves() -> None:
    program = "from outlast.cli.mcp.command import mcp_command; import outlast.cli"
    assert imported(program).isdisjoint({"mcp", "mcp_types", "pydantic", "anyio", "aiohttp", "asyncio"})
