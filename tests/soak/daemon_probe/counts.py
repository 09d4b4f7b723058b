"""Counts of a daemon's tasks and objects, on a thread of its own, and only when asked.

Objects are counted if their class is one of ours. Those of the model are left out: bounded caches keep them, and the
SQLite thread keeps what it read last.
"""  # noqa: INP001 - a folder of PYTHONPATH has no __init__

import asyncio
import gc
import json
import socket
import threading

_ROOMS = ("outlast.api", "outlast.core", "outlast.daemon", "outlast.shimlink", "outlast.storage")
_CACHED = {"Piece", "_Cached"}


def answer_on(address: str) -> None:
    """Answer each connection to a Unix socket with the counts, as JSON."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(address)
    server.listen()
    threading.Thread(target=_answer, args=(server,), daemon=True).start()


def _answer(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(json.dumps(_count()).encode())


def _count() -> dict[str, int]:
    gc.collect()
    found = gc.get_objects()
    return {
        "tasks": sum(isinstance(it, asyncio.Task) and not it.done() for it in found),
        "objects": sum(_is_ours(type(it)) for it in found),
    }


def _is_ours(cls: type) -> bool:
    return str(cls.__module__).startswith(_ROOMS) and cls.__name__ not in _CACHED
