"""Starting: what a process gets, what it does not get, and the error when it cannot be started."""

import asyncio
import errno
import json
import os
import pwd
import resource
from pathlib import Path
from typing import Any

import pytest

from outlast.wire.identity import load_identity, make_mark
from tests.support.daemon import Daemon

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes as somebody else")


async def test_the_answer_has_the_contracts_form(daemon: Daemon) -> None:
    process = await daemon.run(
        "sleep", "1000", tags={"team": "a"}, working_dir="/tmp", env={"KEY": "value"}, stdin_mode="pipe"
    )
    expected: dict[str, Any] = {
        "status": "running",
        "reason": None,
        "exit_code": None,
        "signal": None,
        "oom_killed": False,
        "stdin_writable": True,
        "command": "sleep",
        "args": ["1000"],
        "ended_at": None,
        "managed": None,
        "name": None,
        "tags": {"team": "a"},
        "working_dir": "/tmp",
        "user": None,
        "success_exit_codes": [],
        "nice": None,
        "limits": {},
        "tty": None,
        "stdin_mode": "pipe",
        "stdout_mode": "capture",
        "stderr_mode": "capture",
        "run": 1,
        "output": {"lines": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "last_at": None, "trimmed": None},
    }
    assert {key: process[key] for key in expected} == expected
    assert set(process) == set(expected) | {"pid", "handle", "id", "started_at"}
    assert Path(f"/proc/{process['pid']}/comm").read_text() == "sleep\n"
    assert await daemon.get(process) == process
    assert await daemon.call("GET", f"/processes/{process['pid']}", 200) == process
    assert (await daemon.call("GET", "/processes", 200))["processes"] == [process]


async def test_a_process_is_stored_before_its_start_is_answered(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    assert daemon.sql("SELECT id, pid, status FROM processes") == [(process["id"], process["pid"], "running")]


async def test_the_environment_is_clean(state_dir: Path) -> None:
    daemon = Daemon(
        state_dir, OUTLAST_TOKEN="top-secret", AWS_SECRET="also-secret", TZ="UTC", A_PROXY="near", HOME="/no"
    )
    config = state_dir.parent / "outlast.toml"
    config.write_text('inherit_env = ["A_PROXY", "HOME", "NOT_SET"]\n')
    try:
        await daemon.start("--config", str(config))
        process = await daemon.run("env", "-0", env={"ASKED": "for", "LANG": "C"})
        await daemon.ended(process)
        pairs = (await daemon.raw(process)).decode().rstrip("\0").split("\0")
        found = dict(pair.split("=", 1) for pair in pairs)
        account = pwd.getpwuid(os.geteuid())
        assert found == {
            "PATH": os.environ["PATH"],
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "LANG": "C",
            "TZ": "UTC",
            "ASKED": "for",
            "A_PROXY": "near",
            "OUTLAST_PROCESS_ID": process["id"],
            "OUTLAST_MARK": str(make_mark(load_identity(state_dir).secret, process["id"])),
        }
        files = [path for path in state_dir.iterdir() if path.is_file()]
        assert files
        for path in files:  # an environment's values are kept nowhere
            assert b"top-secret" not in path.read_bytes()
            assert b"also-secret" not in path.read_bytes()
    finally:
        await daemon.end_everything()


async def test_environment_values_are_not_kept(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000", env={"PASSWORD": "hunter2-hunter2"})
    assert "hunter2" not in json.dumps(process)
    for path in daemon.state_dir.iterdir():
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()
    assert "hunter2" not in daemon.log


async def test_only_the_three_standard_descriptors_are_inherited(daemon: Daemon) -> None:
    other = await daemon.run("cat", stdin_mode="pipe")
    program = (
        "import os; print(sorted(os.listdir('/proc/self/fd'))); print(os.getpgrp() == os.getsid(0) == os.getpid())"
    )
    process = await daemon.python(program)
    await daemon.ended(process)
    assert await daemon.lines(process) == ["['0', '1', '2', '3']", "True"]  # 3 is the listing's own
    await daemon.call("DELETE", f"/processes/{other['id']}", 204)


async def test_no_signal_is_blocked_by_default(daemon: Daemon) -> None:
    process = await daemon.sh("cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'")
    await daemon.ended(process)
    # Signals 32 and 33 are the C library's own, which does not let us set them; our parent may have ignored them.
    reserved = 1 << 31 | 1 << 32
    assert [int(mask.split()[1], 16) & ~reserved for mask in await daemon.lines(process)] == [0, 0, 0]


async def test_the_umask_is_the_daemons(daemon: Daemon) -> None:
    process = await daemon.sh("umask")
    await daemon.ended(process)
    current = os.umask(0)
    os.umask(current)
    assert [int(line, 8) for line in await daemon.lines(process)] == [current]


async def test_the_limit_of_open_files_is_the_daemons(daemon: Daemon) -> None:
    process = await daemon.sh("ulimit -Sn")
    await daemon.ended(process)
    assert await daemon.lines(process) == [str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])]


FAILURES: list[tuple[dict[str, Any], int, str]] = [
    ({"command": "no-such-command"}, errno.ENOENT, "no-such-command"),
    ({"command": "/etc/passwd"}, errno.EACCES, "/etc/passwd"),
    ({"command": "true", "working_dir": "/no/such/folder"}, errno.ENOENT, "working_dir '/no/such/folder'"),
    ({"command": "true", "working_dir": "/etc/passwd"}, errno.ENOTDIR, "working_dir '/etc/passwd'"),
    ({"command": "true", "user": "no-such-user"}, errno.EINVAL, "no-such-user"),
    ({"command": "/"}, errno.EACCES, "'/'"),
    ({"command": "true", "args": ["x" * 200_000]}, errno.E2BIG, "true"),
]


async def test_a_start_that_fails_leaves_no_row(daemon: Daemon) -> None:
    for body, number, says in FAILURES:
        error = await daemon.call("POST", "/processes", 422, body)
        assert (error["code"], error["errno"]) == ("SPAWN_FAILED", number), says
        assert says in error["error"]
        assert await daemon.call("GET", "/processes", 200) == {"processes": [], "next": None}, says
        assert daemon.sql("SELECT count(*) FROM processes") == [(0,)], says


@as_root
@pytest.mark.parametrize("user", ["nobody", {"name": "nobody"}, "{uid}:{gid}", {"uid": "{uid}", "gid": "{gid}"}])
async def test_a_process_runs_as_its_user(daemon: Daemon, user: Any) -> None:
    account = pwd.getpwnam("nobody")
    numbers = {"{uid}": account.pw_uid, "{gid}": account.pw_gid}
    if isinstance(user, dict):
        user = {key: numbers.get(value, value) for key, value in user.items()}
    else:
        user = user.format(uid=account.pw_uid, gid=account.pw_gid)
    process = await daemon.sh("id -u; id -g; echo $USER", user=user, working_dir="/")
    await daemon.ended(process)
    assert await daemon.lines(process) == [str(account.pw_uid), str(account.pw_gid), "nobody"]


async def test_the_command_is_looked_for_in_the_path_that_was_asked_for(daemon: Daemon, tmp_path: Path) -> None:
    script = tmp_path / "own-command"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    other = tmp_path / "other"
    other.mkdir()
    (other / "own-command").write_text("cannot be run")
    process = await daemon.run("own-command", env={"PATH": f"/nowhere:{script}:{other}:{tmp_path}:/usr/bin:/bin"})
    await daemon.ended(process)
    assert await daemon.lines(process) == ["found"]
    for path, number in ((f"/nowhere:{other}:/bin", errno.EACCES), (f"/nowhere:{script}", errno.ENOENT)):
        error = await daemon.call("POST", "/processes", 422, {"command": "own-command", "env": {"PATH": path}})
        assert (error["code"], error["errno"]) == ("SPAWN_FAILED", number)


async def test_many_processes_start_at_once(daemon: Daemon) -> None:
    processes = await asyncio.gather(*(daemon.sh(f"echo {i}; exit {i}") for i in range(100)))
    assert len({process["id"] for process in processes}) == 100
    for i, process in enumerate(processes):
        assert (await daemon.ended(process))["exit_code"] == i
        assert await daemon.lines(process) == [str(i)]
    listed = (await daemon.call("GET", "/processes", 200))["processes"]
    assert sorted((p["handle"] for p in listed), reverse=True) == [p["handle"] for p in listed]


async def test_processes_are_listed(daemon: Daemon) -> None:
    processes = [await daemon.sh(f"exit {i % 2}", tags={"parity": str(i % 2), "number": str(i)}) for i in range(6)]
    sleeper = await daemon.run("sleep", "1000", tags={"parity": "none"})
    for process in processes:
        await daemon.ended(process)
    ids = [process["id"] for process in reversed([*processes, sleeper])]

    async def listed(query: str) -> list[str]:
        return [p["id"] for p in (await daemon.call("GET", f"/processes{query}", 200))["processes"]]

    assert await listed("") == ids
    assert await listed("?status=running") == [sleeper["id"]]
    assert await listed("?status=exited") == ids[1:]
    assert await listed("?tag=parity:1") == [p["id"] for p in reversed(processes) if p["args"][1] == "exit 1"]
    assert await listed("?tag=parity:1&tag=number:3") == [processes[3]["id"]]
    assert await listed(f"?until={processes[0]['started_at'] - 1}") == []
    pages, cursor = [], ""
    while True:
        page = await daemon.call("GET", f"/processes?limit=3{cursor}", 200)
        pages.append([p["id"] for p in page["processes"]])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    assert await listed("?order=oldest") == ids[::-1]
    assert await listed("?name=nobody") == []
    page = await daemon.call("GET", "/processes?limit=3&order=oldest", 200)
    assert await listed(f"?order=oldest&cursor={page['next']}") == ids[-4::-1]
    error = await daemon.call("GET", f"/processes?limit=3&cursor={page['next']}", 400)
    assert error["error"].startswith("cursor belongs to another list")


async def test_a_process_is_found_by_its_references(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    for ref in (process["pid"], process["id"]):
        assert (await daemon.call("GET", f"/processes/{ref}", 200))["id"] == process["id"]
    for ref in ("999999999", "9" * 40, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "some-name", "%20", "0"):
        error = await daemon.call("GET", f"/processes/{ref}", 404)
        assert error["code"] == "NOT_FOUND"
    info = await daemon.call("GET", "/info", 200)
    assert (info["running_processes"], info["total_processes"]) == (1, 1)
    assert await daemon.call("GET", "/health", 200) == {"healthy": True}
