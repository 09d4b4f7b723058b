"""Completion: what a shell gets to choose from, and in a real shell."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.cli.commands import environment, outlast
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import DEADLINE_S


async def completed(daemon: Daemon, *words: str) -> list[str]:
    """The words from which a shell may choose for the last of `words`."""
    typed = " ".join(("outlast", *words))
    said = await outlast(daemon, _OUTLAST_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words)))
    assert said.err == ""
    return [line.removeprefix("plain,") for line in said.text.splitlines() if line]


async def test_commands_options_and_processes_are_completed(daemon: Daemon) -> None:
    await daemon.run("sleep", "1000", name="web", restart={"policy": "never"})
    await daemon.run("sleep", "1000", name="worker", restart={"policy": "never"})
    await daemon.run("true")
    assert await completed(daemon, "lo") == ["logs"]
    assert await completed(daemon, "ps", "--sort", "") == ["cpu", "mem", "age", "name"]
    assert await completed(daemon, "logs", "") == ["@3", "worker", "web"]
    assert await completed(daemon, "logs", "-f", "we") == await completed(daemon, "stop", "worker", "we") == ["web"]
    assert await completed(daemon, "inspect", "@") == ["@3"]
    assert await completed(daemon, "events", "wo") == ["worker"]


async def test_no_daemon_completes_no_processes(daemon: Daemon) -> None:
    await daemon.end_everything()
    assert await completed(daemon, "logs", "") == []


async def test_scripts_are_printed_for_each_shell(daemon: Daemon) -> None:
    for shell in ("bash", "zsh", "fish"):
        said = await outlast(daemon, "completion", shell)
        assert (said.code, "_OUTLAST_COMPLETE" in said.text) == (0, True)
    assert (await outlast(daemon, "completion", "csh")).code == 2


@pytest.mark.slow
async def test_bash_completes_a_name(daemon: Daemon, tmp_path: Path) -> None:
    await daemon.run("sleep", "1000", name="web", restart={"policy": "never"})
    program = tmp_path / "outlast"
    program.write_text(f'#!/bin/sh\nexec {OUTLAST[0]} -m outlast "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(outlast completion bash)"; COMP_WORDS=(outlast logs we); COMP_CWORD=2; '
        '_outlast_completion outlast; echo "${COMPREPLY[@]}"'
    )
    env = environment(daemon, PATH=f"{tmp_path}:{os.environ['PATH']}")
    bash = await asyncio.create_subprocess_exec("bash", "-c", script, env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(bash.communicate(), DEADLINE_S)
    assert out == b"web\n"
