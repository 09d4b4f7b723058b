"""The log of a soak: what was done, and what was found wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.soak.daemon_client import UnexpectedResult
from tests.soak.processes import ShortProcess

_FINDINGS_KEPT = 50
Totals = tuple[int | None, int | None, int]
"""Exit code, signal, and bytes of output."""


@dataclass
class SoakLog:
    """Counts, findings, and the expected totals of each process that is still in the store.

    Attributes:
        doing: counts of what was done, by name.
        kept: expected totals by process id.
        findings: the first things found wrong, in sentences.
        wrong: number of all of them.
    """

    doing: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Totals] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    wrong: int = 0

    def report(self, what: str) -> None:
        """Note a finding."""
        self.wrong += 1
        if len(self.findings) < _FINDINGS_KEPT:
            self.findings.append(what)


def totals_of(info: dict[str, Any]) -> Totals:
    """Return the totals in an answer of the API."""
    return info["exit_code"], info["signal"], info["output"]["bytes"]


def expect(info: dict[str, Any], short: ShortProcess) -> Totals:
    """Check how a process ended, and return its totals.

    Raises:
        UnexpectedResult: the process ended otherwise.
    """
    wanted = short.exit_code, short.signal, len(short.stdout) + len(short.stderr)
    if totals_of(info) != wanted or info["status"] == "running":
        raise UnexpectedResult(f"{short.kind} {info['id']}: {info['status']}, {totals_of(info)}, and not {wanted}")
    return wanted
