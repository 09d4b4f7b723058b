"""A lack of descriptors or threads is told as that: not as a lost key, an unknown user or an unhealthy process."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from outlast.core.commands import users
from outlast.core.commands.spawn_errors import explain
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.health_check import probe_port
from outlast.linux.proc import read_environment, read_stat
from outlast.model.errors import OutlastError, OutOfResources, SpawnFailed
from outlast.model.options import HealthCheck, HealthCheckType, Limits, Options
from outlast.model.process import OutputMode, ProcessSpec, StdinMode
from outlast.model.shortage import _NO_THREAD, ADVICE, shortages_told
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.launch.exec_child import _execute
from outlast.shortages import SHORTAGES
from outlast.wire.contract import Stage


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_probe_without_a_descriptor_says_nothing_about_the_process() -> None:
    check = HealthCheck(type=HealthCheckType.TCP, port=1)
    assert await probe_port(check, 1) is not None
    with no_descriptors(), pytest.raises(OutOfResources):
        await probe_port(check, 1)


def test_a_key_that_cannot_be_read_now_is_not_lost(tmp_path: Path) -> None:
    encryption = EnvEncryption(tmp_path)
    encrypted = encryption.encrypt({"SECRET": "x"})
    with no_descriptors():
        with pytest.raises(OutOfResources):
            encryption.decrypt(encrypted)
        with pytest.raises(OutOfResources):
            encryption.encrypt({})
    assert encryption.decrypt(encrypted) == {"SECRET": "x"}


def test_a_user_that_cannot_be_looked_up_now_is_not_unknown() -> None:
    with no_descriptors(), contextlib.suppress(OutOfResources):  # the C library may have the list open already
        assert users.resolve(users.UserSpec(name="nobody")).name == "nobody"
    with pytest.raises(SpawnFailed):
        users.resolve(users.UserSpec(name="no-such-user"))


def test_only_shortages_are_told_as_such() -> None:
    for error in (OSError(errno.EMFILE, "x"), MemoryError(), RuntimeError(f"cannot {_NO_THREAD}")):
        with pytest.raises(OutOfResources), shortages_told("look"):
            raise error
    for other in (OSError(errno.ENOENT, "x"), RuntimeError("x"), ValueError("x")):
        with pytest.raises(type(other)), shortages_told("look"):
            raise other


def test_there_is_advice_for_each_shortage() -> None:
    assert ADVICE.keys() == SHORTAGES


@pytest.mark.parametrize("number", sorted(SHORTAGES), ids=lambda number: errno.errorcode[number])
def test_no_part_takes_a_shortage_for_an_answer(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process has not gone, a cgroup is not empty and a program does not lack because nothing could be opened."""

    def refuse(*_args: object, **_keywords: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr("outlast.shim.launch.exec_child.os.stat", refuse)
    for ask in (lambda: read_stat(1), lambda: read_environment(1), lambda: _execute(["x"], {"PATH": "/bin"})):
        with pytest.raises(OSError, match=os.strerror(number)):
            ask()
    assert CgroupRoot(tmp_path).is_populated("x", str(tmp_path))


def test_threads_that_the_system_refuses_are_known() -> None:
    """Python says it in words only."""
    program = (
        "import resource, threading\n"
        "from outlast.model.shortage import is_shortage\n"
        "resource.setrlimit(resource.RLIMIT_AS, (64 << 20, 64 << 20))\n"
        "try:\n"
        "    threading.stack_size(256 << 20)\n"
        "    threading.Thread(target=print).start()\n"
        "except RuntimeError as exc:\n"
        "    print(is_shortage(exc))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def failure(stage: int, number: int, limits: Limits) -> OutlastError:
    spec = ProcessSpec(
        id="P",
        command="true",
        args=(),
        env_keys=(),
        working_dir="/",
        user=None,
        stdin_mode=StdinMode.CLOSED,
        stdout_mode=OutputMode.CAPTURE,
        stderr_mode=OutputMode.CAPTURE,
        name=None,
        tags={},
        idempotency_key=None,
        options=Options(limits=limits),
    )
    return explain(stage, number, spec)


@pytest.mark.parametrize("stage", [Stage.SETUP, Stage.USER, Stage.EXEC])
@pytest.mark.parametrize("number", list(ADVICE))
def test_a_shortage_is_no_fault_of_the_request(stage: int, number: int) -> None:
    assert isinstance(failure(stage, number, Limits()), OutOfResources)


def test_what_a_request_limits_itself_is_its_own_fault() -> None:
    for number, limits in ((errno.ENOMEM, Limits(address_space_bytes=1)), (errno.EMFILE, Limits(open_files=4))):
        assert isinstance(failure(Stage.EXEC, number, limits), SpawnFailed)
    assert isinstance(failure(Stage.EXEC, errno.ENOENT, Limits()), SpawnFailed)
