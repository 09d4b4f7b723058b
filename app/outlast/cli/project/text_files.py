"""Files of a project as text, and what is wrong with them."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from outlast.cli.connect import Failure

_USAGE = 2
_MOST_BYTES = 4 << 20


def problem(file: str | os.PathLike[str], line: int | None, sentence: str) -> Failure:
    """Return the failure of a file that says something wrong. `line`: None: the whole file is meant."""
    where = f"{os.fspath(file)}, line {line}" if line else os.fspath(file)
    return Failure(f"{where}: {sentence}", _USAGE)


def near(word: str, known: Iterable[str]) -> str:
    """Return a question for the known word that is nearest; empty: none is near."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def read_text(path: Path) -> str:
    """Return the text of a file, with line breaks of one character.

    Raises:
        Failure: it cannot be read, is too large, is not UTF-8, or was changed meanwhile.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            data = file.read(_MOST_BYTES + 1)
            after = path.stat()
    except OSError as exc:
        raise problem(path, None, f"it cannot be read: {exc.strerror}") from None
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
        raise problem(path, None, "it was changed while it was read: try again")
    if len(data) > _MOST_BYTES:
        raise problem(path, None, f"it has more than {_MOST_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise problem(path, data.count(b"\n", 0, exc.start) + 1, "it is not UTF-8") from None
    return text.replace("\r\n", "\n")
