"""`ps`, `run`, `wait` and what acts on processes: exit codes, forms, sentences."""

import asyncio
import errno
import fcntl
import json
import os
import re
import signal
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from outlast.cli.connect import spawn_failure
from outlast.client import SpawnFailed
from tests.cli.commands import environment, outlast, reads, started
from tests.support.daemon import OUTLAST, Daemon
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


async def test_a_command_that_only_we_find_is_told_where_it_is(daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    path = f"{os.environ['PATH']}:{tmp_path}"
    said = await outlast(daemon, "run", "only-here", PATH=path)
    assert (said.code, f"here it is {program}: -e PATH passes" in said.err) == (127, True), said
    assert (await outlast(daemon, "run", "-e", "PATH", "only-here", PATH=path)).code == 5


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP])
def test_a_limit_that_is_not_available_is_no_fault_of_the_command(number: int) -> None:
    assert spawn_failure(SpawnFailed("limits.memory_bytes is not available", number), "true", {}).exit_code == 125


async def test_wait_exits_as_its_process_did(daemon: Daemon) -> None:
    exited, killed = await daemon.sh("exit 3"), await daemon.sh("kill -9 $$")
    assert (await outlast(daemon, "wait", exited["id"])).code == 3
    assert (await outlast(daemon, "wait", str(killed["pid"]))).code == 137
    sleeper = await daemon.sh("echo ready; sleep 1000", name="web", restart={"policy": "never"})
    said = await outlast(daemon, "wait", "web", "--timeout", "20ms")
    assert (said.code, said.err) == (124, "Error: web: not after 0.02 s\n")
    assert (await outlast(daemon, "wait", sleeper["id"], "--output", "re.dy")).out == b"ready\n"
    assert (await outlast(daemon, "wait", "web", "--idle", "1ms")).code == 0
    assert (await outlast(daemon, "wait", "web", "--healthy")).code == 125
    await daemon.sh("echo ready; exec sleep 1000", name="ready", ready_log="ready")
    assert (await outlast(daemon, "wait", "ready", "--healthy")).code == 0


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
    titles = ["ID", "NAME", "PID", "STATUS", "AGE", "CPU", "MEM", "LINES", "LAST", "COMMAND"]
    assert lines[0].split() == titles
    assert [line.split()[:2] for line in lines[1:]] == [["@3", "-"], ["@2", "-"], ["@1", "web"]]
    assert "killed by SIGTERM" in lines[1]
    assert "exited 1" in lines[2]
    assert lines[3].endswith("sleep 1000")
    assert [line.split()[1] for line in (await outlast(daemon, "ps", "--name", "w*")).text.splitlines()] == [
        "NAME",
        "web",
    ]
    assert len((await outlast(daemon, "ps", "--failed")).text.splitlines()) == 3
    assert len((await outlast(daemon, "ps", "-n", "1")).text.splitlines()) == 2
    assert len((await outlast(daemon, "ps", "--since", "2000-01-01")).text.splitlines()) == 4
    assert len((await outlast(daemon, "ps", "--since", "@9999999999")).text.splitlines()) == 1


async def test_ps_sorts_and_chooses_columns(daemon: Daemon) -> None:
    names = ["b", "c", "a"]
    for name in names:
        await daemon.sh("echo x; sleep 1000", name=name, restart={"policy": "never"})

    async def listed(*words: str) -> list[str]:
        return (await outlast(daemon, "ps", *words)).text.splitlines()[1:]

    assert await listed("--columns", "NAME", "--sort", "name") == ["a", "b", "c"]
    assert await listed("--columns", "name", "--sort", "age") == names
    assert await listed("--columns", "name", "--sort", "age", "-n", "1") == ["b"]
    assert [line.split() for line in await listed("--columns", "ulid,id", "--name", "a")] == [
        [(await daemon.call("GET", "/processes/a", 200))["id"], "@3"]
    ]
    said = await outlast(daemon, "ps", "--columns", "name,pdi")
    assert (said.code, "there is no column 'pdi': name id, name, pid" in said.err) == (2, True)
    assert (await outlast(daemon, "ps", "--sort", "size")).code == 2


async def test_ps_tells_processor_memory_and_the_last_output(daemon: Daemon) -> None:
    busy = await daemon.python("print('x', flush=True)\nwhile True: pass")
    await daemon.run("sleep", "1000")
    await eventually(lambda: has_usage(daemon, busy))
    words = ("ps", "--columns", "id,cpu,mem,last", "--sort", "cpu")
    first, second = [line.split() for line in (await outlast(daemon, *words)).text.splitlines()[1:]]
    assert first[0] == "@1"
    assert float(first[1].removesuffix("%")) > 0
    assert first[2][-1] == "M"
    assert first[3][-1] == "s"
    assert (second[0], second[3]) == ("@2", "-")
    record = json.loads((await outlast(daemon, "ps", "--json", "--sort", "mem")).out)[0]
    assert record["usage"]["memory"]["rss_bytes"] > 1 << 20
    await daemon.call("DELETE", f"/processes/{busy['id']}", 204)
    ended = (await outlast(daemon, *words, "--failed")).text.splitlines()[1].split()
    assert (ended[:3], ended[3][-1]) == (["@1", "-", "-"], "s")


async def has_usage(daemon: Daemon, process: dict[str, Any]) -> bool:
    listed = (await daemon.call("GET", "/processes?usage=true", 200))["processes"]
    return all(each["usage"] and each["output"]["last_at"] for each in listed if each["id"] == process["id"])


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
    stubborn = await daemon.sh("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    await daemon.wait_for_lines(stubborn, 1)
    assert (await outlast(daemon, "stop", "--grace", "10ms", f"@{stubborn['handle']}")).code == 0
    assert (await daemon.get(stubborn))["signal"] == signal.SIGKILL
    assert (await outlast(daemon, "rm", stubborn["id"])).code == 0
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
    deaf = await daemon.sh("exec sleep 600")
    said = await outlast(daemon, "send", deaf["id"], "one")
    assert (said.code, "`outlast run -di` starts a process with one" in said.err) == (1, True), said


async def test_events_and_searches_are_shown(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh("echo Needle; exit 2", name="job", restart={"policy": "never"}))
    assert [line.split()[3] for line in (await outlast(daemon, "events")).text.splitlines()[1:]] == ["job"] * 3
    exited = (await outlast(daemon, "events", "--type", "exited", process["id"])).text.splitlines()
    assert exited[1].endswith("exited 2")
    async with started(daemon, "events", "-f") as following:
        assert [line.split()[2] for line in await reads(following, 3)] == ["started", "exited", "stopped"]
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
    assert (said.code, "it was looked for in OUTLAST_TOKEN" in said.err) == (1, True)
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


# ---- options of a start


async def test_run_passes_its_input_on(daemon: Daemon) -> None:
    data = bytes(range(256)) * 4000
    counted = await outlast(daemon, "run", "-i", "sh", "-c", "wc -c; exit 3", input=data)
    assert (counted.code, int(counted.out)) == (3, len(data))
    async with started(daemon, "run", "-i", "sh", "-c", "read a; echo got $a; read b; echo got $b") as running:
        assert running.stdin is not None
        for word in ("one", "two"):
            running.stdin.write(f"{word}\n".encode())
            assert await reads(running, 1) == [f"got {word}"]
        assert await asyncio.wait_for(running.wait(), DEADLINE_S) == 0
    early = await outlast(daemon, "run", "-i", "true", input=data)
    assert (early.code, early.err) == (0, "")
    kept = (await outlast(daemon, "run", "-di", "cat")).text.strip()
    assert (await outlast(daemon, "send", kept, "later", "--eof")).code == 0
    assert (await outlast(daemon, "logs", "-f", kept)).out == b"later\n"
    assert (await outlast(daemon, "run", "cat", input=b"unread")).out == b""


async def test_run_kills_a_command_whose_input_may_be_incomplete(daemon: Daemon) -> None:
    async with started(daemon, "run", "-i", "sh", "-c", "read a; echo $a; sleep 1000") as running:
        assert running.stdin is not None
        running.stdin.write(b"first\n")
        assert await reads(running, 1) == ["first"]
        running.stdin.write(b"x" * 1_000_000)  # more than the pipe holds: the call waits
        ((pid,),) = daemon.sql("SELECT pid FROM processes")
        await eventually(lambda: bytes_in_pipe(pid) >= 1 << 16)
        await daemon.kill()
        await daemon.start()
        assert running.stderr is not None
        said = await asyncio.wait_for(running.stderr.read(), DEADLINE_S)
        assert await asyncio.wait_for(running.wait(), DEADLINE_S) == 125
    assert re.search(rb"only the first \d+ bytes of input are known to have arrived: ", said), said


def bytes_in_pipe(pid: int) -> int:
    """Bytes of standard input that a process has not read."""
    fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    finally:
        os.close(fd)


async def test_variables_come_from_files(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=1\nexport B = ' two words '\nC=\"x=y # z\"\nHERE\nD=\nE=from the file\n")
    script = 'echo "$A|$B|$C|$HERE|$D|$E"'
    words = ["run", "--env-file", str(file), "-e", "E=given", "sh", "-c", script]
    assert (await outlast(daemon, *words, HERE="h")).text == "1| two words |x=y # z|h||given\n"
    assert f"{file}, line 6: HERE is not set here" in (await outlast(daemon, *words)).err
    for text, problem in (("=x", "line 1: '=x' is not KEY=VALUE"), ("a b=c", "is not KEY=VALUE")):
        file.write_text(text)
        said = await outlast(daemon, *words)
        assert (said.code, problem in said.err) == (2, True), said.err
    file.write_bytes(b"\xff")
    assert "it is not UTF-8" in (await outlast(daemon, *words)).err
    assert "No such file" in (await outlast(daemon, "run", "--env-file", "/no/such", "true")).err


async def test_a_health_check_is_a_url(daemon: Daemon) -> None:
    for number, (url, expected) in enumerate(
        {
            "http://:8000": ("http", 8000, "/"),
            "http://localhost:8001/up?x=1": ("http", 8001, "/up?x=1"),
            "tcp://:8002": ("tcp", 8002, None),
        }.items()
    ):
        name = (await outlast(daemon, "run", "-d", "--name", f"w{number}", "--health", url, "sleep", "1000")).text
        check = (await daemon.call("GET", f"/processes/{name.strip()}", 200))["managed"]["health_check"]
        assert (check["type"], check["port"], check["path"]) == expected
    for url in ("http://:x", "http://", "tcp://:1/path", "http://example.com:80/", "udp://:1", "tcp:80"):
        said = await outlast(daemon, "run", "-d", "--health", url, "true")
        assert (said.code, "--health is http://:PORT" in said.err) == (2, True), said
    assert (await outlast(daemon, "run", "--health", "tcp://:1", "true")).code == 2


# ---- what run shows


async def test_run_into_a_file_gives_the_exact_bytes(daemon: Daemon, tmp_path: Path) -> None:
    script = r"printf 'a\377b\r\n\000\n'; printf '\346\n' >&2; printf 'cut\377'"
    for _ in range(3):
        said = await daemon_bytes(daemon, "run", "sh", "-c", script)
        assert said == (b"a\xffb\r\n\0\ncut\xff", b"\xe6\n")
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(300_000))
    assert (await daemon_bytes(daemon, "run", "cat", str(noise)))[0] == noise.read_bytes()
    assert (await daemon_bytes(daemon, "run", "printf", "no end"))[0] == b"no end"


async def daemon_bytes(daemon: Daemon, *words: str) -> tuple[bytes, bytes]:
    """Both streams of a command as bytes."""
    async with started(daemon, *words) as process:
        return await asyncio.wait_for(process.communicate(), DEADLINE_S)


async def test_run_ends_with_its_command_though_others_hold_the_output(daemon: Daemon) -> None:
    said = await outlast(daemon, "run", "sh", "-c", "sleep 1000 & echo hi; exit 4")
    assert (said.code, said.text) == (4, "hi\n")


async def test_run_shows_a_prompt_on_a_terminal(daemon: Daemon) -> None:
    ours, theirs = os.openpty()
    command = [*OUTLAST, "run", "-i", "sh", "-c", r"printf 'name\033[2J? '; read a; echo hello $a"]
    asking = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(daemon)
    )
    os.close(theirs)
    said = b""
    try:
        while b"? " not in said:
            said += await asyncio.wait_for(asyncio.to_thread(os.read, ours, 1000), DEADLINE_S)
        assert "name\u241b[2J? ".encode() in said
        os.write(ours, b"bob\n")
        while b"hello bob" not in said:
            said += await asyncio.wait_for(asyncio.to_thread(os.read, ours, 1000), DEADLINE_S)
        assert await asyncio.wait_for(asking.wait(), DEADLINE_S) == 0
    finally:
        os.close(ours)
        if asking.returncode is None:
            asking.kill()
            await asking.wait()


async def test_run_kills_its_command_when_its_reader_leaves(daemon: Daemon) -> None:
    async with started(daemon, "run", "yes") as running:
        await reads(running, 1)
        running.stdout._transport.close()  # type: ignore[union-attr]
        await eventually(lambda: daemon.sql("SELECT 1 FROM processes WHERE status = 'signaled'"))
        await asyncio.wait_for(running.wait(), DEADLINE_S)


async def test_a_shell_command_checks_the_health(daemon: Daemon) -> None:
    await outlast(daemon, "run", "-d", "--name", "checked", "--health", "test -d / && exit 0", "sleep", "1000")
    check = (await daemon.call("GET", "/processes/checked", 200))["managed"]["health_check"]
    assert (check["type"], check["command"], check["args"]) == ("exec", "/bin/sh", ["-c", "test -d / && exit 0"])


async def test_run_changes_a_process_in_place(daemon: Daemon) -> None:
    words = ["run", "-d", "--name", "web", "--restart", "never", "--replace", "sleep"]
    assert (await outlast(daemon, *words, "1000")).text == "web\n"
    said = await outlast(daemon, *words, "1000")
    assert (said.text, said.err) == ("web\n", "outlast: web runs like this already: nothing was done\n")
    assert (await outlast(daemon, *words, "1001")).text == "web\n"
    seen = await daemon.call("GET", "/processes/web", 200)
    assert (seen["run"], seen["args"]) == (2, ["1001"])
    assert (await outlast(daemon, *words[:-1], "no-such-program")).code == 127
    for wrong in (["--replace", "true"], ["-d", "--replace", "true"], ["--key", "k", *words[1:], "1"]):
        assert (await outlast(daemon, "run", *wrong)).code == 2, wrong
