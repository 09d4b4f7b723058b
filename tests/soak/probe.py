"""Asking a daemon what it holds inside: see `daemon_probe/counts.py`."""

import asyncio
import json
import os
from pathlib import Path

_VARIABLE = "OUTLAST_SOAK_PROBE"
_ANSWER_S = 30.0


def environment(state_dir: Path) -> dict[str, str]:
    """Return what a daemon must be started with to answer."""
    folders = [str(Path(__file__).parent / "daemon_probe"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders)), _VARIABLE: str(state_dir)}


async def ask_daemon(state_dir: Path, pid: int) -> dict[str, float]:
    """Return the figures of a daemon by their names."""
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(f"\0{state_dir}.{pid}")
        raw = await reader.read()
        writer.close()
        await writer.wait_closed()
    return {f"daemon {name}": count for name, count in json.loads(raw).items()}
