"""A Procfile: lines `name: command`."""

import re
from collections.abc import Mapping
from pathlib import Path

from outlast.cli.project.declared import DeclaredProcess, DeclaredProject
from outlast.cli.project.text_files import problem, read_text

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(.+)")
_PORT, _PORT_STEP, _MOST_PORT = 5000, 100, 65_535


def read_procfile(path: Path, variables: Mapping[str, str]) -> DeclaredProject:
    """Return the project of a Procfile.

    Each command is one of a shell, and has `PORT`: 5000, or what `variables` have, and a hundred more for each process.

    Raises:
        Failure: a line is wrong.
    """
    project = DeclaredProject("", path.parent)
    base = variables.get("PORT", str(_PORT))
    if not base.isdecimal():
        raise problem(path, None, f"PORT is {base!r}, and not a number")
    for number, line in enumerate(read_text(path).split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise problem(path, number, f"{text!r} is not `name: command`")
        name, command = match.groups()
        if name.isdecimal():
            raise problem(path, number, f"{name!r} is a number, and no name")
        if name in project.processes:
            first = project.processes[name].line
            raise problem(path, number, f"{name!r} is declared twice, first in line {first}")
        port = int(base) + _PORT_STEP * len(project.processes)
        if port > _MOST_PORT:
            raise problem(path, number, f"PORT would be {port}, and a port is at most {_MOST_PORT}")
        start = {
            "command": "sh",
            "args": ["-c", command],
            "env": {**variables, "PORT": str(port)},
            "restart": {"policy": "never"},
        }
        project.processes[name] = DeclaredProcess(start, str(path), number)
    if not project.processes:
        raise problem(path, None, "it declares no process")
    return project
