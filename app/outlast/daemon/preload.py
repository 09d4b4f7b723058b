"""Modules that only some calls need, imported before the first call: the package may be replaced or moved by then.

A module of another version, or none, would meet the modules that are loaded already. What is read from files later
(`/docs`, the program for SQL) is opened or read by its own module when that is imported.
"""

import importlib

from outlast.linux.memory import page_out_programs

_LATE_MODULES = (
    "cryptography.fernet",  # environments of managed processes
    "outlast.api.openapi",
    "re2",
)


def import_late_modules() -> None:
    """Import them, and give back what they have only read of their libraries until a call needs it."""
    for name in _LATE_MODULES:
        importlib.import_module(name)
    page_out_programs(("cryptography", "re2"))
