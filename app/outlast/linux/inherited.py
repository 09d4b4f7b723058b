"""Standard streams and signals, as a program inherits them from its caller: it must not rely on them."""

import os
import signal
from collections.abc import Iterable

_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def fill_standard_fds() -> None:
    """Open /dev/null in the place of each standard stream that is closed: another file would get its number and use."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free


def reset_signals(numbers: Iterable[int] | None = None) -> None:
    """Unblock all signals, and give those that were ignored at the start of this program their default action.

    Args:
        numbers: signals that may be ignored no longer. None: all but those that Python itself ignores.
    """
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON if numbers is None else numbers:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
