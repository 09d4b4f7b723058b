"""The blocking client is made of the one for event loops: `python -m tools.sync_client` writes it."""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "app" / "outlast" / "client"
MODULES = ("client", "process", "session", "terminal")

_WORDS = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncGenerator": "Generator",
    "aclosing": "closing",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "asyncio": "time",
}
_REPLACED = re.compile(rf"\b({'|'.join(_WORDS)})\b|\basync (?=def|for|with)|\bawait |\bAsync(?=[A-Z])|\basync_(?=\w)")
_LISTED = re.compile(r"\[(\w+) for \1 in (\w+)\]")
_YIELDED = re.compile(r"for (\w+) in (.+):\n +yield \1\n")
_RUFF = (sys.executable, "-m", "ruff")


def target(name: str) -> Path:
    """Return the path of a blocking module."""
    return FOLDER / f"sync_{name}.py"


def blocking(name: str) -> str:
    """Return the source of a blocking module."""
    head, _, rest = (FOLDER / f"async_{name}.py").read_text(encoding="utf-8").partition("\n")
    subject = re.sub(r",? inside an event loop", "", head).partition(". ")[0]
    rest = _REPLACED.sub(_plain, rest)
    rest = _YIELDED.sub(r"yield from \2\n", _LISTED.sub(r"\2", rest))
    source = f'{subject}. Made of `async_{name}.py` by `make fix`: change that one."""\n{rest}'
    for step in (("check", "--quiet", "--fix", "--select=I"), ("format",)):
        ruff = (*_RUFF, *step, f"--stdin-filename={target(name)}", "-")
        source = subprocess.run(ruff, input=source, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - our own tool
    return source


def _plain(match: re.Match[str]) -> str:
    if match[0] in _WORDS:
        return _WORDS[match[0]]
    return "sync_" if match[0] == "async_" else ""


def main() -> None:
    """Write the blocking modules."""
    for name in MODULES:
        target(name).write_text(blocking(name), encoding="utf-8")


if __name__ == "__main__":
    main()
