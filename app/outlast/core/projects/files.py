"""The files of the projects: one each, in a folder of the state folder, replaced as a whole."""

import json
import logging
from pathlib import Path

from outlast.core.projects.entries import ProjectRecord
from outlast.linux.whole_file import replace_file, sync_folder

log = logging.getLogger(__name__)

FOLDER_NAME = "projects"
_SUFFIX = ".json"


class ProjectFiles:
    """The files of one state folder. The methods block: call them in a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER_NAME

    def load(self) -> list[ProjectRecord]:
        """Return all projects. A file that cannot be read is told of in the log, and left as it is."""
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                found.append(_load(path))
            except Exception:  # whatever is in a file, the daemon starts
                log.exception("the project in %s is left alone, because it cannot be read", path)
        return found

    def save(self, record: ProjectRecord) -> None:
        """Keep a project, also over a loss of power.

        Raises:
            OSError: it is not kept.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(record.name), json.dumps(record.to_json()).encode())
        sync_folder(self._folder)

    def remove(self, name: str) -> None:
        """Forget a project.

        Raises:
            OSError: it may still be kept.
        """
        self._path(name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _load(path: Path) -> ProjectRecord:
    record = ProjectRecord.from_json(json.loads(path.read_bytes()))
    if record.name != path.stem:
        raise ValueError(f"the name of the file is not that of the project, {record.name!r}")
    return record
