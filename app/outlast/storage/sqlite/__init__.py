"""Storage in one SQLite file, which plain `sqlite3` reads. DESIGN.md beside this file says how and why."""

from outlast.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]
