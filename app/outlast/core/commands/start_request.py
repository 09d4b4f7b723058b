"""A request to start a process, and what the shim is asked to do for it."""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.commands.users import Identity, UserSpec
from outlast.model.errors import SpawnFailed
from outlast.model.options import Options
from outlast.model.process import OutputMode, ProcessSpec, StdinMode
from outlast.model.ulid import new_ulid
from outlast.shimlink import SpawnRefused
from outlast.wire.contract import CONTROLLERS, MARKER, STAGES, Command, Stage

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What a caller asks for, checked for form only. Shapes and defaults are those of the HTTP contract."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: UserSpec | None = None
    stdin_mode: StdinMode = StdinMode.CLOSED
    stdout_mode: OutputMode = OutputMode.CAPTURE
    stderr_mode: OutputMode = OutputMode.CAPTURE
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    options: Options = field(default_factory=Options)


def make_spec(request: StartRequest, identity: Identity) -> ProcessSpec:
    """Give the request an id and what it left to us. Environment values stay behind."""
    return ProcessSpec(
        id=new_ulid(time.time_ns() // 1_000_000),
        command=request.command,
        args=request.args,
        env_keys=tuple(sorted(request.env)),
        working_dir=request.working_dir or identity.home,
        user=None if request.user is None else str(request.user),
        stdin_mode=request.stdin_mode,
        stdout_mode=request.stdout_mode,
        stderr_mode=request.stderr_mode,
        name=request.name,
        tags=request.tags,
        idempotency_key=request.idempotency_key,
        options=request.options,
    )


def make_command(
    request: StartRequest, spec: ProcessSpec, identity: Identity, inherit_env: Sequence[str] = ()
) -> Command:
    """Say all that the shim needs to start it."""
    return Command(
        argv=[spec.command, *spec.args],
        env=make_environment(request.env, identity, spec.id, inherit_env),
        working_dir=spec.working_dir,
        stdin=spec.stdin_mode is StdinMode.PIPE,
        stdout=spec.stdout_mode is OutputMode.CAPTURE,
        stderr=spec.stderr_mode is OutputMode.CAPTURE,
        uid=identity.uid,
        gid=identity.gid,
        groups=identity.groups,
        nice=spec.options.nice,
        limits=spec.options.limits.given,
        timeout_ms=spec.options.timeout_ms,
    )


def make_environment(
    asked: Mapping[str, str], identity: Identity, process_id: str, inherit: Sequence[str] = ()
) -> dict[str, str]:
    """Make a clean environment plus what was asked for.

    Of the daemon's own, only PATH, LANG and TZ are passed on, and what is named in `inherit`.
    """
    clean = {"PATH": os.environ.get("PATH", _DEFAULT_PATH), "HOME": identity.home}
    clean |= {"USER": identity.name, "LOGNAME": identity.name}
    clean |= {key: os.environ[key] for key in ("LANG", "TZ") if key in os.environ}
    inherited = {key: os.environ[key] for key in inherit if key in os.environ}
    return {**inherited, **clean, **asked, MARKER: process_id}


def explain(refused: SpawnRefused, spec: ProcessSpec) -> SpawnFailed:
    """Turn the system's refusal into a sentence that says what to do."""
    reason = os.strerror(refused.errno)
    if refused.stage == Stage.WORKING_DIR:
        sentence = f"working_dir {spec.working_dir!r} can't be entered: {reason}"
    elif refused.stage == Stage.USER:
        sentence = f"user {spec.user!r} can't be taken on: {reason}"
    elif refused.stage in STAGES:
        sentence = _explain_limit(STAGES[refused.stage], refused.errno, spec)
    elif refused.stage == Stage.SETUP:
        sentence = f"the system can't start a process now: {reason}"
    elif refused.errno == errno.ENOENT:
        sentence = f"command {spec.command!r} was not found (or the interpreter that its first line names)"
    elif refused.errno in (errno.EACCES, errno.EPERM):
        sentence = f"command {spec.command!r} is not executable for this user: {reason}"
    elif refused.errno == errno.ENOEXEC:
        sentence = f"command {spec.command!r} is no program: {reason} (a script needs a first line such as #!/bin/sh)"
    else:
        sentence = f"command {spec.command!r} can't be started: {reason}"
    return SpawnFailed(sentence, refused.errno)


def _explain_limit(name: str, number: int, spec: ProcessSpec) -> str:
    """Say which limit can't be had, and why."""
    if name == "nice":
        return (
            f"nice {spec.options.nice} can't be set: {os.strerror(number)}; below its own, the daemon needs the "
            "right to do so (CAP_SYS_NICE)"
        )
    limit = f"limits.{name}"
    if name not in CONTROLLERS:
        return (
            f"{limit} can't be set to {getattr(spec.options.limits, name)}: {os.strerror(number)}; above its own, "
            "the daemon needs the right to do so (CAP_SYS_RESOURCE)"
        )
    if number == errno.EOPNOTSUPP:
        return f"{limit} can't be had: no cgroup (v2) can be made here; leave it out, or see docs/deployment.md"
    if number == errno.ENODEV:
        return (
            f"{limit} can't be had: the {CONTROLLERS[name]} controller of cgroup v2 is not delegated to this daemon; "
            "leave it out, or see docs/deployment.md"
        )
    return f"{limit} can't be set for the process's cgroup: {os.strerror(number)}"
