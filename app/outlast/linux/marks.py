"""Marking a process with a number that all its descendants inherit, and reading the mark of any process.

The mark is the soft limit on file locks (RLIMIT_LOCKS), which Linux has not enforced since 2.4.25. It survives fork,
exec, setsid and a change of the user, and every user may read it. Every process that is started begins as a copy of
this module's importer: it imports next to nothing.
"""

import resource

RLIMIT_LOCKS = 10
"""The limit that is the mark: on every architecture. `resource` does not name it."""
_LINE = b"\nMax file locks "


def set_mark(mark: int) -> None:
    """Mark the calling process, unless a sandbox or a hard limit below the mark prevents it."""
    try:
        resource.setrlimit(RLIMIT_LOCKS, (mark, resource.getrlimit(RLIMIT_LOCKS)[1]))
    except (OSError, ValueError):
        return


def read_mark(pid: int) -> int | None:
    """Return the soft limit on file locks of a process. None: it has none, or the process has gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            raw = file.read()
    except OSError:
        return None
    at = raw.find(_LINE)
    words = raw[at + len(_LINE) :].split(maxsplit=1) if at >= 0 else []
    return int(words[0]) if words and words[0].isdigit() else None
