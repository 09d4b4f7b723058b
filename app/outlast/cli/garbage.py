"""When the garbage collector works: not while modules are imported.

Modules stay, and going through them again and again, at the end of the process too, takes a fifth of the time of a
short command.
"""

import gc


def rest() -> None:
    """Collect no garbage, until `begin`."""
    gc.disable()


def begin() -> None:
    """Collect the garbage of all that is made from now on."""
    gc.freeze()
    gc.enable()
