"""Figures from inside a daemon, which `daemon_probe/counts.py` answers with."""

import asyncio
import json
import os
from pathlib import Path

_VARIABLE = "OUTLAST_SOAK_PROBE"
_ANSWER_S = 30.0


def environment(state_dir: Path) -> dict[str, str]:
    """Return the environment variables with which a daemon answers."""
    folders = [str(Path(__file__).parent / "daemon_probe"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders)), _VARIABLE: str(state_dir)}


async def ask_daemon(state_dir: Path, pid: int) -> dict[str, float]:
    """Ask a daemon, and return its figures by name."""
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(f"\0{state_dir}.{pid}")
        raw = await reader.read()
        writer.close()
        await writer.wait_closed()
    return {f"daemon {name}": count for name, count in json.loads(raw).items()}
