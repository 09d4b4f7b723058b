"""Modules that only some calls need, imported before the first call: the package may be replaced or moved by then.

A module of another version, or none, would meet the modules that are loaded already. What is read from files later
(`/docs`, the program for SQL) is opened or read by its own module when that is imported.
"""

import asyncio
import importlib

_LATE_MODULES = (
    "cryptography.fernet",  # environments of managed processes
    "outlast.api.openapi",
    "re2",
)


async def import_late_modules() -> None:
    """Import them in a thread. Most of that time the daemon waits for its store and its shim anyway."""
    await asyncio.to_thread(lambda: [importlib.import_module(name) for name in _LATE_MODULES])
