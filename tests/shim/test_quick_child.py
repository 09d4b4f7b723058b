"""Children in the fork helper's memory: what they run in is what forked ones run in, and their gates hold as well."""

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.linux.marks import read_mark
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.launch import forkserver
from outlast.shim.launch.spawn import SpawnOutcome
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDOUT
from outlast.wire.contract import GATE_BYTE, Command, Stage
from tests.shim.test_forkserver import (
    MARK,
    OUTCOME_MS,
    Forking,
    command,
    forking,
    forking_in,
    helper_pid,
    output_of,
)
from tests.support.waiting import DEADLINE_S

__all__ = ["forking"]

OF_THE_C_LIBRARY = 3 << 31
"""Signals 32 and 33, which nobody can set."""
COPIED_PAGES = 50
"""A copy of the helper touches more pages than this before its program runs; a child in its memory hardly any."""


def quick(plain: Command) -> Command:
    return plain


def forked(plain: Command) -> Command:
    """Ask for what a chain of calls cannot do, and change nothing by that."""
    return plain._replace(nice=os.getpriority(os.PRIO_PROCESS, 0))


Kind = Callable[[Command], Command]
both_kinds = pytest.mark.parametrize("kind", [quick, forked])


def at_its_gate(forking: Forking, asked: Command) -> Child:
    answers = forking.add(asked)
    forking.until(lambda: answers)
    (child,) = answers
    assert isinstance(child, Child)
    forking.until(lambda: waits(child.pid))
    return child


def waits(pid: int) -> bool:
    return "pipe_read" in Path(f"/proc/{pid}/wchan").read_text()


def outcome_of(child: Child) -> SpawnOutcome:
    """Wait for the outcome of a start, and close all that it had."""
    assert select.select([child.outcome], [], [], OUTCOME_MS / 1000)[0]
    outcome = SpawnOutcome(child.report)
    os.waitpid(child.pid, 0)
    for fd in (child.outcome, child.report, child.pidfd):
        os.close(fd)
    child.streams[STDOUT].close()
    return outcome


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_a_plain_start_copies_no_memory_and_another_does(forking: Forking) -> None:
    faults = {}
    for kind in (quick, forked):
        child = at_its_gate(forking, kind(command("true")))
        faults[kind] = page_faults(child.pid)
        output_of(child)
    assert faults[quick] < COPIED_PAGES < faults[forked]


def test_a_start_with_a_terminal_is_forked(forking: Forking) -> None:
    child = at_its_gate(forking, command("exec tty")._replace(terminal=(24, 80)))
    assert page_faults(child.pid) > COPIED_PAGES
    pipe = child.streams[STDOUT].pipe
    assert pipe is not None
    os.write(child.gate, GATE_BYTE)
    assert not outcome_of(child).failed
    assert os.read(pipe, 100).startswith(b"/dev/pts/")
    for fd in (pipe, child.gate, child.stdin):
        assert fd is not None
        os.close(fd)


@both_kinds
def test_what_a_program_finds(forking: Forking, kind: Kind, tmp_path: Path) -> None:
    say = "echo $0 $1 $#; pwd; echo $VARIABLE; ulimit -Sn; ulimit -Hn; ls /proc/self/fd | wc -w; ps -o sid= -p $$"
    asked = command(say, "name", "first", "")._replace(working_dir=str(tmp_path))
    child = at_its_gate(forking, kind(asked._replace(env={**asked.env, "VARIABLE": "a=b c\u00e4"})))
    wanted = ["name first 2", str(tmp_path), "a=b c\u00e4", "1024", "4096", "4", str(child.pid)]
    assert output_of(child).decode().split() == " ".join(wanted).split()


@both_kinds
def test_it_bears_its_mark_at_its_gate(forking: Forking, kind: Kind) -> None:
    child = at_its_gate(forking, kind(command("true")))
    assert read_mark(child.pid) == MARK
    output_of(child)


@both_kinds
def test_no_signal_is_blocked_or_ignored(forking: Forking, kind: Kind) -> None:
    words = forking.run(kind(command("grep -E 'Sig(Blk|Ign)' /proc/self/status")))[0].split()
    assert [int(word, 16) & ~OF_THE_C_LIBRARY for word in words[1::2]] == [0, 0]


@both_kinds
def test_a_gate_that_is_closed_lets_nothing_run(forking: Forking, kind: Kind, tmp_path: Path) -> None:
    child = at_its_gate(forking, kind(command(f"touch {tmp_path}/ran")))
    os.close(child.gate)
    assert outcome_of(child).failed
    assert not (tmp_path / "ran").exists()


@both_kinds
@pytest.mark.parametrize(
    ("program", "number"), [("/nowhere/program", 2), ("/etc/passwd", 13), ("not-a-program-of-any-path", 2), ("/", 13)]
)
def test_a_program_that_cannot_be_executed(forking: Forking, kind: Kind, program: str, number: int) -> None:
    child = at_its_gate(forking, kind(command("")._replace(argv=[program])))
    os.write(child.gate, GATE_BYTE)
    os.close(child.gate)
    outcome = outcome_of(child)
    assert (outcome.stage, outcome.errno) == (Stage.EXEC, number)


def test_a_start_works_after_one_that_failed(forking: Forking) -> None:
    """In the same memory."""
    for _ in range(3):
        child = at_its_gate(forking, command("")._replace(argv=["/nowhere/program"]))
        os.write(child.gate, GATE_BYTE)
        os.close(child.gate)
        assert outcome_of(child).failed
        assert forking.run(command("echo fine")) == [b"fine\n"]


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_child_survives_its_helper(forking: Forking, is_killed: bool) -> None:
    """The helper's memory stays as long as a child waits in it."""
    child = at_its_gate(forking, command("echo alive"))
    helper = helper_pid()
    server = forking.starts._server
    if is_killed:
        os.kill(helper, signal.SIGKILL)
    else:
        assert server._sock is not None
        server._sock.shutdown(socket.SHUT_RDWR)  # as when the shim dies
    os.waitid(os.P_PID, helper, os.WEXITED)
    assert output_of(child) == b"alive\n"


def test_more_wait_than_there_is_room_for(forking: Forking) -> None:
    count = 50
    answers = forking.add(*(command(f"echo {n}") for n in range(count)))
    forking.until(lambda: len(answers) == count)
    assert [output_of(answer) for answer in answers] == [b"%d\n" % n for n in range(count)]


def test_nothing_of_another_start_is_open_at_a_gate(forking: Forking) -> None:
    first, second = (at_its_gate(forking, command("true")) for _ in range(2))
    ours = {
        Path(f"/proc/self/fd/{fd}").readlink().name for fd in (first.gate, first.outcome, first.streams[STDOUT].pipe)
    }
    theirs = {path.readlink().name for path in Path(f"/proc/{second.pid}/fd").iterdir()}
    assert not ours & theirs
    assert not any(name.startswith("socket:") for name in theirs)
    output_of(first)
    output_of(second)


@pytest.mark.parametrize("size", [60_000, 70_000])
def test_what_does_not_fit_is_forked(forking: Forking, size: int) -> None:
    assert forking.run(command('echo "$1" | wc -c', "name", "x" * size)) == [b"%d\n" % (size + 1)]


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[CgroupRoot]:
    groups = CgroupRoot.create(tmp_path)
    if groups is None:
        pytest.skip("no cgroup can be made here")
    made_in = groups.path
    yield groups
    groups.path = made_in
    deadline = time.monotonic() + DEADLINE_S
    while not groups.remove():
        assert time.monotonic() < deadline


@both_kinds
@pytest.mark.parametrize("can_join", [True, False])
def test_the_report_says_who_is_not_in_its_cgroup(groups: CgroupRoot, kind: Kind, can_join: bool) -> None:
    if not can_join:  # because it would be a domain inside a threaded cgroup
        outer = groups.path / "outer"
        outer.mkdir()
        (outer / "cgroup.type").write_text("threaded")
        groups.path = outer
    with forking_in(groups) as forking:
        child = at_its_gate(forking, kind(command("true")))
        assert SpawnOutcome(child.report).joined_cgroup == can_join
        assert ("/P\n" in Path(f"/proc/{child.pid}/cgroup").read_text()) == can_join
        output_of(child)


def test_the_report_has_no_gaps() -> None:
    """The chain writes errno into its middle."""
    assert struct.calcsize("<BI") == 1 + struct.calcsize("=I")


@pytest.mark.parametrize("lacks", ["makecontext", "clone"])
def test_without_chains_everything_is_forked(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    """As with another C library than glibc, or where a sandbox refuses such children."""
    prevent = {
        "makecontext": "c._CONTEXT_BYTES.clear()",
        "clone": "c._CLONE_VM = 1 << 16",  # CLONE_THREAD, which the kernel refuses alone
    }[lacks]
    program = forkserver._PROGRAM.replace("from outlast", f"import outlast.linux.chain as c; {prevent}; from outlast")
    monkeypatch.setattr(forkserver, "_PROGRAM", program)
    with forking_in(None) as forking:
        child = at_its_gate(forking, command("echo fine"))
        assert helper_pid()
        assert page_faults(child.pid) > COPIED_PAGES
        assert output_of(child) == b"fine\n"
