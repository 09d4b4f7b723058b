"""Declared processes, in the form in which the daemon takes them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.cli.project.text_files import near, problem
from outlast.model.project import find_cycle


@dataclass(slots=True)
class DeclaredProcess:
    """A declared process.

    Attributes:
        start: fields of its start, as the API has them.
        file: file that declares it.
        line: line of that.
        needs: for which condition of which others it waits.
        need_lines: file and line of each need.
        disabled: whether it is declared only.
        ends_all: whether its end is to end an attached `up`.
    """

    start: dict[str, Any]
    file: str
    line: int
    needs: dict[str, str] = field(default_factory=dict)
    need_lines: dict[str, tuple[str, int]] = field(default_factory=dict)
    disabled: bool = False
    ends_all: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """The declaration as the API has it."""
        return {"start": self.start, "depends_on": self.needs, "disabled": self.disabled}


@dataclass(slots=True)
class DeclaredProject:
    """A project.

    Attributes:
        name: name that the file gives; empty: none.
        folder: folder of the file.
        processes: by name.
        notes: what was passed over, each once.
    """

    name: str
    folder: Path
    processes: dict[str, DeclaredProcess] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Note that something was passed over."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def check(self) -> None:
        """Check that what processes wait for can come.

        Raises:
            Failure: it cannot; file and line are named.
        """
        for name, process in self.processes.items():
            for other, need in process.needs.items():
                where = process.need_lines[other]
                if other not in self.processes:
                    raise problem(
                        *where, f"{name} depends on {other!r}, which is not declared{near(other, self.processes)}"
                    )
                start = self.processes[other].start
                if need in {"healthy", "log_ready"} and not ("health_check" in start or "ready_log" in start):
                    raise problem(
                        *where, f"{name} waits until {other} is {need}, which has no readiness_probe or ready_log_line"
                    )
        cycle = find_cycle({name: process.needs for name, process in self.processes.items()})
        if cycle:
            where = self.processes[cycle[0]].need_lines[cycle[1]]
            raise problem(*where, f"processes depend on one another in a circle: {' -> '.join(cycle)}")
