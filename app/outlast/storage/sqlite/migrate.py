"""Migrations: numbered SQL files, each applied in one transaction together with the new schema version.

Views hold no data, so they need no history: each migration drops all views, and the last one creates those of
`views.sql`.
"""

import re
import sqlite3
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from outlast.failpoints import failpoint
from outlast.model.errors import StorageError

APPLICATION_ID = 0x4F544C53
"""`PRAGMA application_id` of Outlast's databases ("OTLS"); the first migration sets it."""


def migrations() -> list[str]:
    """Return the SQL of each migration, in order; the first leads from version 0 to version 1."""
    folder = _folder()
    numbered = sorted(entry for entry in _numbered(folder))
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise StorageError(f"the installation is incomplete: {folder} lacks a migration; install outlast again")
    return [text for _, text in numbered]


def _folder() -> Traversable:
    packaged = files("outlast") / "_migrations" / "sqlite"
    checkout: Traversable = Path(__file__).parents[4] / "migrations" / "sqlite"
    return packaged if packaged.is_dir() else checkout


_NEWEST_ROWS = """c.id IN (
    SELECT k.id FROM (
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 0
        UNION ALL
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 1 AND a.gap IS NULL
        UNION ALL
        SELECT a.id, a.first_seq FROM output_chunk a WHERE a.handle = p.handle AND a.stream = 2 AND a.gap IS NULL
        ORDER BY 2 DESC LIMIT 100
    ) k
) AND +c.handle"""


def _views() -> str:
    """Return the SQL of all views: those of `views.sql`, and those made of the text of `output_lines`.

    `output_tail` is the same for few rows. Both have a second view beside them, over `output_readable_portable`.
    """
    text = (_folder() / "views.sql").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^CREATE VIEW output_lines .*?;$", text, re.MULTILINE | re.DOTALL)
    newest = re.sub(r"(?<=JOIN output_readable c ON )c\.handle", _NEWEST_ROWS, lines)
    tail = newest.replace("output_lines", "output_tail").replace("AND c.stream", "AND +c.stream")
    portable = [re.sub(r"\boutput_(lines|tail|readable)\b", r"output_\1_portable", view) for view in (lines, tail)]
    return "\n".join([text, tail, *portable])


def _numbered(folder: Traversable) -> list[tuple[int, str]]:
    return [
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    ]


def refuse_unknown(db: sqlite3.Connection, path: Path) -> bool:
    """Check that the database is empty or belongs to Outlast, and is not newer than this program.

    Returns:
        Whether the database is empty.

    Raises:
        StorageError: the database must not be changed.
    """
    version = _version(db)
    known = len(migrations())
    if version > known:
        raise StorageError(f"{path} has schema version {version}, this program knows {known}: upgrade outlast")
    has_tables = db.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()[0]
    if not version and not has_tables:
        return True
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StorageError(f"{path} is a SQLite database of another program: name another file")
    return False


def apply(db: sqlite3.Connection, steps: Sequence[str] | None = None) -> None:
    """Bring the schema to the newest version. A kill in the middle leaves a complete older version."""
    steps = migrations() if steps is None else steps
    for version, sql in enumerate(steps, start=1):
        if version > _version(db):
            views = db.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
            drops = "".join(f"DROP VIEW {name}; " for (name,) in views)
            made = _views() if version == len(steps) else ""
            db.executescript(f"BEGIN IMMEDIATE; {drops}{sql}\n;{made}\n; PRAGMA user_version = {version}")
            failpoint("migration-inside")
            db.execute("COMMIT")
            failpoint("migration-after")


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version
