"""Shortages: what the system lacks for a moment is nobody's mistake, so it is waited out and never judged."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

from outlast.model.errors import OutOfResources
from outlast.shortages import SHORTAGES

ADVICE: Mapping[int, str] = {
    errno.EAGAIN: "end processes, or raise the limits on them (ulimit -u, TasksMax, pids.max)",
    errno.EMFILE: "end processes or close connections, or raise the hard limit on open files (ulimit -Hn, LimitNOFILE)",
    errno.ENFILE: "end processes, or raise the system's limit on open files (fs.file-max)",
    errno.ENOMEM: "end processes, or raise the limits on memory",
    errno.ENOBUFS: "end processes, or raise the limits on memory",
}
"""Advice to an operator for each of `SHORTAGES`."""
_NO_THREAD = "start new thread"
"""Words in the RuntimeError of a thread that the system refuses."""


def is_shortage(error: BaseException) -> bool:
    """Return whether an error tells of a lack of processes, threads, descriptors or memory."""
    if isinstance(error, OSError):
        return error.errno in SHORTAGES
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_THREAD in str(error))


def shortage(number: int, doing: str = "start a process") -> OutOfResources:
    """Return the error for a lack that errno `number` tells of. `doing`: what cannot be done."""
    advice = ADVICE.get(number, "try again")
    return OutOfResources(f"the system cannot {doing} now ({os.strerror(number)}): {advice}")


@contextlib.contextmanager
def shortages_told(doing: str) -> Iterator[None]:
    """Turn the error of a shortage into an `OutOfResources`.

    Args:
        doing: what cannot be done then, as in "read the list of users".
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as exc:
        if not is_shortage(exc):
            raise
        number = exc.errno if isinstance(exc, OSError) else None
        raise shortage(number or (errno.ENOMEM if isinstance(exc, MemoryError) else errno.EAGAIN), doing) from None
