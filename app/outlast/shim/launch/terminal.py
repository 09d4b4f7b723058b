"""Making a terminal (pty(7)). The shim imports this with the first process that has one."""

import contextlib
import os
import termios

_INPUT_FLAGS = 0
_IUTF8 = 0o40000
"""Input is UTF-8, so that the erase key removes a whole character. Python's `termios` does not name the flag."""


def open_terminal(rows: int, cols: int, owner: int | None) -> tuple[int, int]:
    """Return master and slave of a new terminal.

    Args:
        rows: its height.
        cols: its width.
        owner: the user who may open the slave by its path; None: that of this process.

    Raises:
        OSError: the system has no terminal or descriptor for it now.
    """
    master, slave = os.openpty()
    try:
        termios.tcsetwinsize(slave, (rows, cols))
        attributes = termios.tcgetattr(slave)
        attributes[_INPUT_FLAGS] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    if owner is not None:
        with contextlib.suppress(OSError):  # the system refuses that, and the process uses what it inherits
            os.fchown(slave, owner, -1)
    return master, slave
