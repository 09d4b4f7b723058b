"""Limits of a process: resources, its nice value, and whom it runs as."""

import errno
import grp
import os
import pwd
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, group_folders

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes as somebody else")
MIB = 1 << 20
_CAP_SYS_RESOURCE = 24
BURN = "while True:\n    pass"
SHOW = """
import os, resource as r
for name in ("CPU", "AS", "NOFILE", "NPROC", "FSIZE"):
    print(name, *r.getrlimit(getattr(r, "RLIMIT_" + name)))
print("nice", os.getpriority(os.PRIO_PROCESS, 0))
"""
NO_LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"limits": {"memory_bytes": 0}}, "limits.memory_bytes must be an integer from 1048576 to"),
    ({"limits": {"memory_bytes": 10**30}}, "limits.memory_bytes"),
    ({"limits": {"memory_bytes": "1g"}}, "limits.memory_bytes"),
    ({"limits": {"cpus": 0}}, "limits.cpus must be a number from 0.01 to 4096"),
    ({"limits": {"cpus": True}}, "limits.cpus"),
    ({"limits": {"cpus": "1"}}, "limits.cpus"),
    ({"limits": {"open_files": 3}}, "limits.open_files"),
    ({"limits": {"cpu_seconds": -1}}, "limits.cpu_seconds"),
    ({"limits": {"processes": 1.5}}, "limits.processes"),
    ({"limits": {"file_size_bytes": 1 << 60}}, "limits.file_size_bytes"),
    ({"limits": {"memory": 1 << 30}}, "unknown field: limits.memory"),
    ({"limits": []}, "limits must be a JSON object"),
    ({"limits": "none"}, "limits must be a JSON object"),
    ({"nice": -21}, "nice must be an integer from -20 to 19"),
    ({"nice": 20}, "nice"),
    ({"nice": "low"}, "nice"),
]


def has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


async def shown(daemon: Daemon, **fields: Any) -> dict[str, list[int]]:
    process = await daemon.python(SHOW, **fields)
    seen = await daemon.ended(process)
    assert seen["exit_code"] == 0, await daemon.lines(process)
    assert (seen["nice"], seen["limits"]) == (fields.get("nice"), fields.get("limits", {}))
    return {line.split()[0]: [int(word) for word in line.split()[1:]] for line in await daemon.lines(process)}


LIMITS = {
    "cpu_seconds": 7,
    "address_space_bytes": 4096 * MIB,
    "open_files": 77,
    "processes": 4000,
    "file_size_bytes": 5 * MIB,
}


async def test_open_files_are_limited_as_for_the_daemon_by_default(daemon: Daemon) -> None:
    assert (await shown(daemon))["NOFILE"][0] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def test_limits_hold_in_the_process(daemon: Daemon) -> None:
    own = await shown(daemon)
    assert await shown(daemon, limits=LIMITS) == {
        "CPU": [7, 8],
        "AS": [4096 * MIB] * 2,
        "NOFILE": [77] * 2,
        "NPROC": [4000] * 2,
        "FSIZE": [5 * MIB] * 2,
        "nice": own["nice"],
    }


async def test_a_process_has_its_nice_value(daemon: Daemon) -> None:
    own = await shown(daemon)
    nice = own["nice"][0] + 3
    assert await shown(daemon, nice=nice) == {**own, "nice": [nice]}


async def test_limits_do_not_bound_the_next_process(daemon: Daemon) -> None:
    own = await shown(daemon)
    await shown(daemon, limits=LIMITS, nice=own["nice"][0] + 3)
    assert await shown(daemon) == own


async def test_a_process_beyond_its_limit_is_ended_by_the_system(daemon: Daemon, tmp_path: Path) -> None:
    burning = await daemon.python(BURN, limits={"cpu_seconds": 1})
    file = tmp_path / "file"
    writing = await daemon.python(
        "import signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen(sys.argv[1], 'wb').write(b'x' * 2000)",
        str(file),
        limits={"file_size_bytes": 1000},
    )
    opening = await daemon.python("files = [open('/dev/null') for _ in range(50)]", limits={"open_files": 20})
    hungry = await daemon.python("data = bytearray(2 << 30)", limits={"address_space_bytes": 1 << 30})
    assert (await daemon.ended(writing))["signal"] == signal.SIGXFSZ
    assert file.stat().st_size == 1000
    assert (await daemon.ended(opening))["exit_code"] == 1
    assert b"Too many open files" in await daemon.raw(opening, "stderr")
    assert (await daemon.ended(hungry))["exit_code"] == 1
    assert b"MemoryError" in await daemon.raw(hungry, "stderr")
    assert (await daemon.ended(burning))["signal"] == signal.SIGXCPU


async def test_a_failed_start_is_reported_under_any_limits(daemon: Daemon) -> None:
    """A child needs nothing that a limit can take from it to report its failure."""
    for limits in ({"file_size_bytes": 0}, {"address_space_bytes": MIB}, {"open_files": 4}):
        error = await daemon.call("POST", "/processes", 422, {"command": "no-such-command", "limits": limits})
        assert error["code"] == "SPAWN_FAILED"
        assert error["errno"] in (errno.ENOENT, errno.ENOMEM)
    assert (await daemon.call("GET", "/info", 200))["total_processes"] == 0


@as_root
async def test_limits_that_are_not_available_are_refused(state_dir: Path) -> None:
    """As a user without rights: here, a daemon that has given them up."""
    daemon = Daemon(state_dir)
    daemon.command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", *daemon.command]
    try:
        await daemon.start()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        own = os.getpriority(os.PRIO_PROCESS, 0)
        for body, number, says in (
            ({"nice": own - 1}, errno.EACCES, f"cannot set nice to {own - 1}"),
            ({"limits": {"open_files": hard + 1}}, errno.EPERM, f"cannot set limits.open_files to {hard + 1}"),
            ({"user": "nobody", "working_dir": "/"}, errno.EPERM, "cannot run as user 'nobody'"),
            ({"user": "no-such-user"}, errno.EINVAL, "no-such-user"),
            ({"user": "nobody:no-such-group"}, errno.EINVAL, "group 'no-such-group' does not exist"),
        ):
            error = await daemon.call("POST", "/processes", 422, {"command": "true", **body})
            assert (error["code"], error["errno"]) == ("SPAWN_FAILED", number)
            assert says in error["error"]
        assert (await shown(daemon, limits={"open_files": hard}, nice=own))["NOFILE"] == [hard, hard]
    finally:
        await daemon.end_everything()


@as_root
async def test_root_may_raise_limits_above_its_own(daemon: Daemon) -> None:
    limits = {"open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}
    if has_capability(_CAP_SYS_RESOURCE):
        limits["open_files"] += 5
    process = await daemon.sh("nice; ulimit -Hn; id -u", nice=-3, limits=limits, user="64321:64321", working_dir="/")
    await daemon.ended(process)
    assert await daemon.lines(process) == ["-3", str(limits["open_files"]), "64321"]


async def test_cgroup_limits_are_set_or_refused(daemon: Daemon) -> None:
    for name, value, controller in (("memory_bytes", 64 * MIB, "memory"), ("cpus", 0.5, "cpu"), ("pids", 20, "pids")):
        body = {"command": "sleep", "args": ["1000"], "limits": {name: value}}
        async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
            status, answer = response.status, await response.json()
        folders = group_folders(daemon.state_dir)
        if status == 422:
            assert (answer["code"], answer["errno"]) == ("SPAWN_FAILED", errno.ENODEV if folders else errno.EOPNOTSUPP)
            assert f"limits.{name} is not available" in answer["error"]
            assert not folders or f"the cgroup v2 {controller} controller" in answer["error"]
            assert not folders or list(folders[0].glob("0*")) == []  # no group stays behind
        else:
            assert status == 201
            assert controller in (folders[0] / "cgroup.subtree_control").read_text().split()
            assert answer["limits"] == {name: value}
            await daemon.call("DELETE", f"/processes/{answer['id']}", 204)


async def test_a_tree_out_of_memory_is_told(daemon: Daemon) -> None:
    body = {
        "command": "sh",
        "args": ["-c", "head -c 200000000 /dev/zero | tail -c 199999999; sleep 1000"],
        "limits": {"memory_bytes": 32 * MIB},
    }
    async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
        process = await response.json()
        if response.status == 422:
            pytest.skip(f"no memory can be bounded here: {process['error']}")
    seen = await daemon.ended(process)
    assert (seen["status"], seen["reason"], seen["oom_killed"]) == ("oom_killed", "oom_killed", True)
    assert seen["signal"] == signal.SIGKILL


async def test_malformed_limits_are_refused(daemon: Daemon) -> None:
    for body, says in NO_LIMITS:
        error = await daemon.call("POST", "/processes", 400, {"command": "true", **body})
        assert error["code"] == "INVALID_REQUEST"
        assert says in error["error"]


async def identity(daemon: Daemon, user: Any) -> tuple[int, int, list[int], str]:
    """Return a process's user, group, all groups in order, and `HOME USER LOGNAME`."""
    show = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '; echo; echo $HOME $USER $LOGNAME"
    process = await daemon.sh(show, user=user, working_dir="/")
    await daemon.ended(process)
    uid, gid, groups, environment = await daemon.lines(process)
    return int(uid), int(gid), [int(word) for word in groups.split()], environment


ACCOUNT = next((a for a in pwd.getpwall() if len(os.getgrouplist(a.pw_name, a.pw_gid)) > 1), pwd.getpwnam("nobody"))
by_name_or_number = pytest.mark.parametrize(
    ("user", "gid"), [(ACCOUNT.pw_name, ACCOUNT.pw_gid), ({"uid": ACCOUNT.pw_uid, "gid": 65533}, 65533)]
)


@as_root
@by_name_or_number
async def test_another_user_has_the_groups_of_its_account(daemon: Daemon, user: Any, gid: int) -> None:
    uid, primary, groups, _ = await identity(daemon, user)
    assert (uid, primary) == (ACCOUNT.pw_uid, gid)
    assert groups == sorted({*os.getgrouplist(ACCOUNT.pw_name, gid)})


@as_root
@by_name_or_number
async def test_another_user_has_the_environment_of_its_account(daemon: Daemon, user: Any, gid: int) -> None:
    home = ACCOUNT.pw_dir if Path(ACCOUNT.pw_dir).is_dir() else "/"
    _, primary, _, environment = await identity(daemon, user)
    assert primary == gid
    assert environment == f"{home} {ACCOUNT.pw_name} {ACCOUNT.pw_name}"


GROUP = next(group for group in grp.getgrall() if group.gr_gid not in os.getgrouplist(ACCOUNT.pw_name, ACCOUNT.pw_gid))


@as_root
async def test_a_group_can_be_named_with_the_user(daemon: Daemon) -> None:
    name, uid, group, gid = ACCOUNT.pw_name, ACCOUNT.pw_uid, GROUP.gr_name, GROUP.gr_gid
    for user in (f"{name}:{group}", f"{name}:{gid}", f"{uid}:{group}", f"{uid}:{gid}", {"name": name, "gid": gid}):
        found_uid, primary, groups, _ = await identity(daemon, user)
        assert (found_uid, primary) == (uid, gid), user
        assert groups == sorted({*os.getgrouplist(name, gid)})


@as_root
async def test_another_user_opens_its_standard_streams_again(daemon: Daemon) -> None:
    """Images that log to /dev/stdout do."""
    script = "read x < /dev/stdin; echo $x > /dev/stdout; echo err > /dev/stderr; echo more >> /dev/stdout"
    process = await daemon.sh(script, user="nobody", working_dir="/", stdin_mode="pipe")
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"in\n")
    assert (await daemon.ended(process))["exit_code"] == 0
    assert await daemon.lines(process, "stdout") == ["in", "more"]
    assert await daemon.lines(process, "stderr") == ["err"]
    dropped = await daemon.sh("echo x > /dev/stdout", user="nobody", working_dir="/", stdout_mode="discard")
    assert (await daemon.ended(dropped))["exit_code"] == 0


@as_root
async def test_another_user_needs_no_account(daemon: Daemon) -> None:
    assert await identity(daemon, "64321:64322") == (64321, 64322, [64322], "/ 64321 64321")
