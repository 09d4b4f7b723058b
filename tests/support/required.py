"""Programs and services that some tests need: a test without them is skipped on a laptop, and fails in CI."""

import os
import shutil
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """Return the path of a program that the calling test needs."""
    path = shutil.which(name)
    if path is None:
        give_up(f"needs {name}")
    return path


def give_up(reason: str) -> NoReturn:
    """Skip the calling test; in CI, fail it."""
    if "CI" in os.environ:
        pytest.fail(f"CI must have everything: {reason}")
    pytest.skip(reason)
