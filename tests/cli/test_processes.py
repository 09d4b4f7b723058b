"""`ps`, `run`, `wait` and what acts on processes: exit codes, forms, sentences."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.cli.commands import outlast, reads, started
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

ANSI = b"\x1b["


# ---- exit codes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["true"], 0),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["--timeout", "50ms", "sleep", "1000"], 124),
        (["/etc/passwd"], 126),
        (["/no/such"], 127),
        (["--no-such-option", "true"], 2),
        (["--name", "web", "true"], 2),
        (["--tag", "x", "true"], 2),
        (["--timeout", "soon", "true"], 2),
    ],
    ids=str,
)
async def test_run_exits_as_its_command_does(daemon: Daemon, words: list[str], code: int) -> None:
    assert (await outlast(daemon, "run", *words)).code == code


async def test_wait_exits_as_its_process_did(daemon: Daemon) -> None:
    exited, killed = await daemon.sh("exit 3"), await daemon.sh("kill -9 $$")
    assert (await outlast(daemon, "wait", exited["id"])).code == 3
    assert (await outlast(daemon, "wait", str(killed["pid"]))).code == 137
    sleeper = await daemon.sh("echo ready; sleep 1000", name="web", restart={"policy": "never"})
    said = await outlast(daemon, "wait", "web", "--timeout", "20ms")
    assert (said.code, said.err) == (124, "Error: web: not after 0.02 s\n")
    assert (await outlast(daemon, "wait", sleeper["id"], "--output", "re.dy")).out == b"ready\n"
    assert (await outlast(daemon, "wait", "web", "--idle", "1ms")).code == 0


async def test_a_process_that_is_not_there_is_exit_code_1(daemon: Daemon) -> None:
    for command in ("wait", "logs", "inspect", "stop", "kill", "restart", "rm"):
        said = await outlast(daemon, command, "nobody")
        assert (said.code, said.out, "no process 'nobody'" in said.err) == (1, b"", True), command
    assert (await outlast(daemon, "signal", "nobody", "TERM")).code == 1
    assert (await outlast(daemon, "wait")).code == 2


async def test_several_are_acted_on_though_one_is_not_there(daemon: Daemon) -> None:
    one, two = await daemon.run("sleep", "1000"), await daemon.run("sleep", "1000")
    said = await outlast(daemon, "kill", one["id"], "nobody", two["id"])
    assert (said.code, said.text.split()) == (1, [one["id"], two["id"]])
    assert {(await daemon.get(process))["status"] for process in (one, two)} == {"signaled"}


# ---- what run does


async def test_run_shows_both_streams_and_starts_here(daemon: Daemon, tmp_path: Path) -> None:
    script = 'pwd; echo "$A $B"; echo err >&2'
    said = await outlast(daemon, "run", "-w", str(tmp_path), "-e", "A=1", "-e", "B", "--", "sh", "-c", script, B="2")
    assert (said.code, said.text, said.err) == (0, f"{tmp_path}\n1 2\n", "err\n")
    assert (await outlast(daemon, "run", "pwd")).text == f"{Path.cwd()}\n"
    assert (await outlast(daemon, "run", "-e", "NO_SUCH", "pwd")).code == 2


async def test_run_detached_prints_the_reference_alone(daemon: Daemon) -> None:
    named = await outlast(daemon, "run", "-d", "--name", "web", "--restart", "on-failure:3", "sleep", "1000")
    assert (named.out, named.err) == (b"web\n", "")
    web = await daemon.call("GET", "/processes/web", 200)
    assert web["managed"]["restart"] | {"policy": "on_failure", "max_restarts": 3} == web["managed"]["restart"]
    other = await outlast(daemon, "run", "-d", "--nice", "1", "--tag", "a=b", "sleep", "1000")
    process = await daemon.call("GET", f"/processes/{other.text.strip()}", 200)
    assert (process["nice"], process["tags"]) == (1, {"a": "b"})


async def test_run_with_a_key_starts_once(daemon: Daemon) -> None:
    said = [await outlast(daemon, "run", "--key", "k", "echo", "x") for _ in range(2)]
    assert [each.out for each in said] == [b"x\n"] * 2
    assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 1


async def test_run_can_leave_nothing(daemon: Daemon) -> None:
    assert (await outlast(daemon, "run", "--rm", "sh", "-c", "echo x; exit 4")).code == 4
    assert (await daemon.call("GET", "/processes", 200))["processes"] == []


async def test_ctrl_c_interrupts_a_run_and_a_second_one_kills_it(daemon: Daemon) -> None:
    script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done"
    async with started(daemon, "run", "sh", "-c", script) as process:
        assert await reads(process, 1) == ["ready"]
        process.send_signal(signal.SIGINT)
        assert await reads(process, 1) == ["caught"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 128 + signal.SIGKILL


async def test_a_run_goes_on_over_a_kill_of_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    script = f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo two; exit 3"
    async with started(daemon, "run", "sh", "-c", script) as process:
        assert await reads(process, 1) == ["one"]
        await daemon.kill()
        await daemon.start()
        (tmp_path / "go").touch()
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert (process.returncode, out, err) == (3, b"two\n", b"outlast: the connection broke; going on where it did\n")
    assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 1


# ---- ps and inspect


async def test_ps_shows_what_runs_and_what_has_just_ended(daemon: Daemon) -> None:
    await daemon.run("sleep", "1000", name="web", restart={"policy": "never"})
    await daemon.ended(await daemon.sh("exit 1"))
    await daemon.ended(await daemon.sh("echo x; kill -TERM $$"))
    lines = (await outlast(daemon, "ps")).text.splitlines()
    assert lines[0].split() == ["NAME", "PID", "STATUS", "AGE", "LINES", "COMMAND"]
    assert [line.split()[0] for line in lines[1:]] == ["-", "-", "web"]
    assert "killed by SIGTERM" in lines[1]
    assert "exited 1" in lines[2]
    assert lines[3].endswith("sleep 1000")
    assert [line.split()[0] for line in (await outlast(daemon, "ps", "--name", "w*")).text.splitlines()] == [
        "NAME",
        "web",
    ]
    assert len((await outlast(daemon, "ps", "--failed")).text.splitlines()) == 3
    assert len((await outlast(daemon, "ps", "-n", "1")).text.splitlines()) == 2
    assert len((await outlast(daemon, "ps", "--since", "2000-01-01")).text.splitlines()) == 4
    assert len((await outlast(daemon, "ps", "--since", "@9999999999")).text.splitlines()) == 1


async def test_what_programs_read_is_nothing_but_that(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000", name="\N{LATIN SMALL LETTER A WITH DIAERESIS}", tags={"k": "v, w"})
    for colour in ("auto", "always"):
        (record,) = json.loads((await outlast(daemon, "ps", "--json", "--color", colour)).out)
        assert (record["id"], record["name"], record["tags"]) == (process["id"], process["name"], {"k": "v, w"})
    assert json.loads((await outlast(daemon, "ps", "-o", "jsonl")).out)["id"] == process["id"]
    head, row = (await outlast(daemon, "ps", "-o", "csv")).text.splitlines()
    assert head.startswith("pid,handle,id,")
    assert '"{""k"": ""v, w""}"' in row
    assert (await outlast(daemon, "ps", "-q")).text == f"{process['id']}\n"
    assert json.loads((await outlast(daemon, "events", "--json")).out)[0]["process_id"] == process["id"]
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    empty = await outlast(daemon, "ps", "--json")
    assert (empty.out, empty.err) == (b"[]\n", "")


async def test_inspect_shows_fields(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh("exit 7"))
    assert (await outlast(daemon, "inspect", process["id"], "-f", "{exit_code} {status}")).out == b"7 exited\n"
    assert json.loads((await outlast(daemon, "inspect", process["id"])).out)["id"] == process["id"]
    wrong = await outlast(daemon, "inspect", process["id"], "-f", "{exitcode}")
    assert (wrong.code, "fields are pid, handle, id" in wrong.err) == (2, True)


# ---- what acts on processes


async def test_processes_are_signalled_restarted_stopped_and_removed(daemon: Daemon) -> None:
    trapper = await daemon.sh("trap 'echo got it' USR1; echo ready; while :; do sleep 0.01; done")
    await daemon.wait_for_lines(trapper, 1)
    assert (await outlast(daemon, "signal", trapper["id"], "USR1")).code == 0
    await daemon.wait_for_lines(trapper, 2)
    assert (await outlast(daemon, "stop", trapper["id"])).text == f"{trapper['id']}\n"
    assert (await daemon.get(trapper))["signal"] == signal.SIGTERM
    await daemon.run("sleep", "1000", name="web")
    assert (await outlast(daemon, "restart", "web")).text == "web\n"
    assert (await daemon.call("GET", "/processes/web", 200))["run"] == 2
    refused = await outlast(daemon, "rm", "web")
    assert (refused.code, "stop it first" in refused.err) == (1, True)
    assert (await outlast(daemon, "rm", "-f", "web", trapper["id"])).code == 0
    assert (await outlast(daemon, "ps", "-aq")).out == b""


async def test_input_is_sent(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    assert (await outlast(daemon, "send", process["id"], "one")).code == 0
    assert (await outlast(daemon, "send", process["id"], "-", "--eof", input=b"\xff\x00two")).code == 0
    await daemon.ended(process)
    assert await daemon.raw(process) == b"one\n\xff\x00two"
    assert (await outlast(daemon, "send", process["id"])).code == 2


async def test_events_and_searches_are_shown(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh("echo Needle; exit 2", name="job", restart={"policy": "never"}))
    assert [line.split()[3] for line in (await outlast(daemon, "events")).text.splitlines()[1:]] == ["job", "job"]
    exited = (await outlast(daemon, "events", "--type", "exited", process["id"])).text.splitlines()
    assert exited[1].endswith("exited 2")
    async with started(daemon, "events", "-f") as following:
        assert [line.split()[2] for line in await reads(following, 2)] == ["started", "exited"]
        following.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(following.wait(), DEADLINE_S) == 130
    found = await outlast(daemon, "search", "-i", "^need")
    assert (found.code, found.text.startswith("job ")) == (0, True)
    assert found.text.endswith("│ Needle\n")
    assert (await outlast(daemon, "search", "-F", "^Need")).code == 1


# ---- the daemon


async def test_no_daemon_is_a_sentence(daemon: Daemon) -> None:
    url = daemon.url
    await daemon.end_everything()
    said = await outlast(daemon, "ps")
    assert (said.code, said.out) == (1, b"")
    assert said.err == f"Error: no daemon answers at {url}: start one with `outlast serve`\n"


async def test_a_wrong_token_says_where_it_was_looked_for(daemon: Daemon) -> None:
    said = await outlast(daemon, "ps", OUTLAST_TOKEN="wrong")
    assert (said.code, "the token was looked for in OUTLAST_TOKEN" in said.err) == (1, True)
    (daemon.state_dir / "token").rename(daemon.state_dir / "other")
    assert f"looked for in {daemon.state_dir / 'token'}" in (await outlast(daemon, "ps")).err
    (daemon.state_dir / "other").rename(daemon.state_dir / "token")


async def test_a_daemon_is_named_by_an_option(daemon: Daemon) -> None:
    process = await daemon.run("true")
    url, daemon.url = daemon.url, "http://127.0.0.1:1"
    assert (await outlast(daemon, "ps", "-aq", "-H", url)).text == f"{process['id']}\n"
    daemon.url = url


async def test_a_run_whose_daemon_cannot_be_reached_is_exit_code_125(daemon: Daemon) -> None:
    await daemon.end_everything()
    for words in (["run", "true"], ["wait", "web"], ["logs", "--until-exit", "web"]):
        assert (await outlast(daemon, *words)).code == 125, words


async def test_a_reader_that_leaves_ends_a_command_in_silence(daemon: Daemon) -> None:
    process = await daemon.python("print('x' * 99 + '\\n', end='', flush=True)\nfor _ in range(99999): print('x' * 99)")
    await daemon.wait_for_lines(process, 100_000)
    async with started(daemon, "logs", process["id"]) as reading:
        await reads(reading, 1)
        reading.stdout._transport.close()  # type: ignore[union-attr]
        assert reading.stderr is not None
        assert await asyncio.wait_for(reading.stderr.read(), DEADLINE_S) == b""
        await eventually(lambda: reading.returncode is not None)
