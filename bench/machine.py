"""Facts that a figure depends on: machine, versions, commit, file system."""

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench import pm2

_CHECKOUT = Path(__file__).parents[1]
_PACKAGES = ("aiohttp", "uvloop", "aiosqlite")
_PEERS = ("supervisor", "circus")


def describe(folder: Path) -> list[str]:
    """Return the facts as lines of text; `folder` is where the bench writes."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return [
        f"machine   {_cpu()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB",
        f"system    {platform.system()} {platform.release()}, {folder} on {_file_system(folder)}",
        f"versions  Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_versions(_PACKAGES)}",
        f"peers     {_versions(_PEERS)}, {_pm2()}",
        f"outlast   {version('outlast')}, commit {_commit()}",
    ]


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _versions(packages: Sequence[str]) -> str:
    return ", ".join(f"{name} {version(name)}" for name in packages)


def _pm2() -> str:
    missing = pm2.missing()
    return f"no pm2 ({missing})" if missing else f"pm2 {pm2.version()}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder`."""
    mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    above = [(len(mount[1]), mount[2]) for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above)[1]


def _commit() -> str:
    """Return the checkout's commit; a plus sign says that files differ from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+" if _git("status", "--porcelain") else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=_CHECKOUT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
