"""Errors of starts that the system refused: which request field is to blame, or what is lacking, and what to do."""

import errno
import os

from outlast.model.errors import OutOfResources, SpawnFailed
from outlast.model.process import ProcessSpec
from outlast.model.shortage import ADVICE, shortage
from outlast.wire.contract import CONTROLLERS, STAGES, Stage

_OWN_LIMITS = {
    errno.ENOMEM: ("address_space_bytes", "memory_bytes"),
    errno.EMFILE: ("open_files",),
}
"""Limits of a request by which its own process may lack what an errno names."""


def explain(stage: int, number: int, spec: ProcessSpec) -> SpawnFailed | OutOfResources:
    """Return the error for a start that failed at `stage` (`Stage`) with errno `number`."""
    if number in ADVICE and not any(name in spec.options.limits.given for name in _OWN_LIMITS.get(number, ())):
        return shortage(number)
    reason = os.strerror(number)
    if stage == Stage.WORKING_DIR:
        sentence = f"cannot enter working_dir {spec.working_dir!r}: {reason}"
    elif stage == Stage.USER:
        sentence = f"cannot run as user {spec.user!r}: {reason}"
    elif stage in STAGES:
        sentence = _explain_limit(STAGES[stage], number, spec)
    elif stage == Stage.SETUP:
        sentence = f"the system cannot start a process now: {reason}"
    elif number == errno.ENOENT:
        hint = ": arguments go into `args`" if " " in spec.command.strip() else ""
        sentence = f"command {spec.command!r} was not found (or the interpreter that its first line names){hint}"
    elif number in (errno.EACCES, errno.EPERM):
        sentence = f"command {spec.command!r} is not executable for this user: {reason}"
    elif number == errno.ENOEXEC:
        sentence = f"command {spec.command!r} cannot be executed: {reason} (a script needs a first line like #!/bin/sh)"
    else:
        sentence = f"command {spec.command!r} cannot be executed: {reason}"
    return SpawnFailed(sentence, number)


def _explain_limit(name: str, number: int, spec: ProcessSpec) -> str:
    """Return the sentence for a limit (or `nice`) that could not be set."""
    reason = os.strerror(number)
    if name == "nice":
        return (
            f"cannot set nice to {spec.options.nice}: {reason}; for values below its own, the daemon needs CAP_SYS_NICE"
        )
    limit = f"limits.{name}"
    if name not in CONTROLLERS:
        return (
            f"cannot set {limit} to {getattr(spec.options.limits, name)}: {reason}; for values above its own, the "
            "daemon needs CAP_SYS_RESOURCE"
        )
    if number == errno.EOPNOTSUPP:
        return f"{limit} is not available: the daemon cannot create cgroups (v2) here (see docs/deployment.md)"
    if number == errno.ENODEV:
        return (
            f"{limit} is not available: the cgroup v2 {CONTROLLERS[name]} controller is not delegated to the daemon "
            "(see docs/deployment.md)"
        )
    return f"cannot set {limit} for the process's cgroup: {reason}"
