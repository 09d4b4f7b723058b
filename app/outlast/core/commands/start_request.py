"""A request to start a process, and the command that the shim gets for it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.commands.users import Identity, UserSpec
from outlast.model.clock import now_ms
from outlast.model.options import Options
from outlast.model.process import OutputMode, ProcessSpec, StdinMode
from outlast.model.ulid import new_ulid
from outlast.wire.contract import PROCESS_ID_VARIABLE, Command

TERM = "xterm-256color"
"""The kind of a terminal of which nobody says anything else."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A client's request to start a process. Fields and defaults are those of the HTTP API."""

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
    """Return the specification of a new process: the request with an id and defaults, without environment values."""
    has_terminal = request.options.terminal is not None
    return ProcessSpec(
        id=new_ulid(now_ms()),
        command=request.command,
        args=request.args,
        env_keys=tuple(sorted(request.env)),
        working_dir=request.working_dir or identity.home,
        user=None if request.user is None else str(request.user),
        stdin_mode=StdinMode.PIPE if has_terminal else request.stdin_mode,
        stdout_mode=OutputMode.CAPTURE if has_terminal else request.stdout_mode,
        stderr_mode=OutputMode.DISCARD if has_terminal else request.stderr_mode,  # a terminal has one output
        name=request.name,
        tags=request.tags,
        idempotency_key=request.idempotency_key,
        options=request.options,
    )


def make_command(
    spec: ProcessSpec, env: Mapping[str, str], identity: Identity, run_key: str, inherit_env: Sequence[str] = ()
) -> Command:
    """Return all that the shim needs to spawn a run. `env`: environment variables that the request gave."""
    terminal = spec.options.terminal
    return Command(
        argv=[spec.command, *spec.args],
        env=make_environment(env, identity, run_key, inherit_env, has_terminal=terminal is not None),
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
        terminal=None if terminal is None else (terminal.rows, terminal.cols),
    )


def make_environment(
    env: Mapping[str, str],
    identity: Identity,
    run_key: str,
    inherit: Sequence[str] = (),
    *,
    has_terminal: bool = False,
) -> dict[str, str]:
    """Return the whole environment of a run: a clean one, what is inherited, and `env`.

    From the daemon's environment it inherits PATH, LANG, TZ, and the variables named in `inherit`. A program
    finds the key of its run in PROCESS_ID_VARIABLE.
    """
    clean = {"PATH": os.environ.get("PATH", _DEFAULT_PATH), "HOME": identity.home}
    clean |= {"USER": identity.name, "LOGNAME": identity.name}
    clean |= {key: os.environ[key] for key in ("LANG", "TZ") if key in os.environ}
    inherited = {key: os.environ[key] for key in inherit if key in os.environ}
    if has_terminal:
        inherited.setdefault("TERM", TERM)
    return {**inherited, **clean, **env, PROCESS_ID_VARIABLE: run_key}
