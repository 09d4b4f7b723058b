"""The files of the project that a folder belongs to."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from outlast.cli.project.declared import DeclaredProject
from outlast.cli.project.process_compose import read_process_compose
from outlast.cli.project.procfile import read_procfile
from outlast.cli.project.text_files import problem
from outlast.cli.project.variables import read_variables

_YAML = ["outlast.yaml", "outlast.yml", "process-compose.yaml", "process-compose.yml"]
_PROCFILE = "Procfile"
_CONTAINERS = {"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_CHARACTERS = 64


def find_file(given: str | None) -> Path:
    """Return the file of the project: that which is given, or the first upwards from this folder.

    Raises:
        click.UsageError: there is none.
    """
    if given is not None:
        return Path(given).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in (*_YAML, _PROCFILE):
            if (folder / name).is_file():
                return folder / name
    for name in _CONTAINERS:
        if (here / name).is_file():
            raise problem(here / name, None, _no_containers())
    raise click.UsageError(
        f"no project is declared in {here} or above: write a Procfile, process-compose.yaml or outlast.yaml"
    )


def read_project(file: Path, name: str | None) -> DeclaredProject:
    """Return the project that a file declares, checked, and with its name.

    `name`: name that is used instead of that of the file or of its folder.

    Raises:
        Failure: something is wrong; file and line are named.
    """
    if file.name in _CONTAINERS:
        raise problem(file, None, _no_containers())
    dotenv = file.parent / ".env"
    variables = read_variables(dotenv, os.environ) if dotenv.is_file() else {}
    if file.name.startswith(_PROCFILE) or file.suffix not in {".yaml", ".yml"}:
        project = read_procfile(file, variables)
    else:
        project = read_process_compose([file, *_overrides(file)], variables)
    project.check()
    project.name = name or project.name or _NO_NAME.sub("-", file.parent.name).strip("-_")[:_NAME_CHARACTERS]
    if not project.name or project.name.isdecimal():
        project.name = f"project{'-' if project.name else ''}{project.name}"
    for process in project.processes.values():
        process.start.setdefault("working_dir", str(file.parent))
        process.start["env"] = {"PATH": os.environ.get("PATH", os.defpath), **process.start["env"]}
    return project


def _overrides(file: Path) -> Iterator[Path]:
    for suffix in (".yaml", ".yml"):
        path = file.with_name(f"{file.stem}.override{suffix}")
        if path.is_file():
            yield path


def _no_containers() -> str:
    return "the images of a compose file mean containers, which Outlast does not run: write a process-compose.yaml"
