"""What is wrong, in one sentence for whoever asks for the daemon's health."""

from outlast.core.output.committer import Committer
from outlast.core.supervision.supervisor import Supervisor


def of_store(committer: Committer, supervisor: Supervisor) -> str | None:
    """Say what the store can't do now, if anything."""
    if committer.failure is not None:
        return f"the store cannot commit: {committer.failure}"
    for process_id, reason in supervisor.refusals.reasons.items():
        return f"the store refuses what process {process_id} writes, and others go on: {reason}"
    return None


def of_shim(supervisor: Supervisor) -> str | None:
    """Say that the shim can't be asked now, if so."""
    if not supervisor.connected:
        return "the shim is not connected"
    return "the shim does not answer: is it stopped?" if supervisor.link.is_silent else None
