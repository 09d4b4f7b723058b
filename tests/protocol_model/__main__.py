"""Explore everything in `cases.py`, and print what was found."""

import sys
import time

from .cases import BROKEN, DEEPER, SOUND
from .search import search
from .state import Model


def report(name: str, model: Model) -> None:
    """Explore one model and print how many states it has, and the trace if it breaks a promise."""
    began = time.monotonic()
    result = search(model)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{name}: {result.states} states, {seconds:.1f} s: {result.promise or 'every promise is kept'}\n")
    sys.stdout.writelines(f"    {step}\n" for step in result.trace)
    sys.stdout.flush()


if __name__ == "__main__":
    for name, model in {**SOUND, **DEEPER}.items():
        report(name, model)
    for name, broken in BROKEN.items():
        report(name, broken.model)
