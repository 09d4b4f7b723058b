"""What was done, and what was found wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.soak.daemon_client import UnexpectedResult
from tests.soak.short_processes import ShortProcess

_FINDINGS_KEPT = 50
Totals = tuple[int | None, int | None, int]
"""Exit code, signal, and how many bytes of output."""


@dataclass
class SoakLog:
    """Counts, and for each process that is still in the store how it must be there.

    Attributes:
        doing: how often what was done.
        kept: by process id.
        findings: what is not as it must be; the first ones only, `wrong` counts all.
    """

    doing: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Totals] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    wrong: int = 0

    def report(self, what: str) -> None:
        """Note that something is wrong."""
        self.wrong += 1
        if len(self.findings) < _FINDINGS_KEPT:
            self.findings.append(what)


def totals_of(info: dict[str, Any]) -> Totals:
    """Return what an answer says."""
    return info["exit_code"], info["signal"], info["output"]["bytes"]


def expect(info: dict[str, Any], short: ShortProcess) -> Totals:
    """Check how a process ended, and return its totals.

    Raises:
        UnexpectedResult: not as it must have.
    """
    wanted = short.exit_code, short.signal, len(short.stdout) + len(short.stderr)
    if totals_of(info) != wanted or info["status"] == "running":
        raise UnexpectedResult(f"{short.kind} {info['id']}: {info['status']}, {totals_of(info)}, and not {wanted}")
    return wanted
