"""The formats of metrics: Prometheus's text format 0.0.4 and OpenMetrics 1.0. They differ in the headings, mostly."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from outlast.core.histogram import Histogram

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"
CONTENT_TYPES = {
    TEXT: f"{TEXT}; version=0.0.4; charset=utf-8",
    OPENMETRICS: f"{OPENMETRICS}; version=1.0.0; charset=utf-8",
}

Value = int | float
Labels = str
"""Labels in braces, as `labels` returns them; empty: none."""

_UNITS = ("bytes", "seconds")
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Kind(StrEnum):
    """Type of a family, as OpenMetrics calls it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


class Family(NamedTuple):
    """Metrics of one name, with different labels.

    Attributes:
        name: name of its samples; of a histogram, without `_bucket`, `_sum` and `_count`.
        kind: its type.
        meaning: one sentence, without a line break or a quotation mark.
    """

    name: str
    kind: Kind
    meaning: str

    def heading(self, *, is_openmetrics: bool) -> list[str]:
        """Return the lines before the samples."""
        name, kind = self.name, self.kind
        if not is_openmetrics:
            kind = Kind.GAUGE if kind is Kind.INFO else kind
            return [f"# HELP {name} {self.meaning}", f"# TYPE {name} {kind}"]
        name = name.removesuffix("_total" if kind is Kind.COUNTER else "_info" if kind is Kind.INFO else "\0")
        unit = name.rpartition("_")[2]
        units = [f"# UNIT {name} {unit}"] if unit in _UNITS else []
        return [f"# TYPE {name} {kind}", *units, f"# HELP {name} {self.meaning}"]


def escape(value: str) -> str:
    """Return the value of a label as it stands between quotation marks."""
    if '"' in value or "\\" in value or "\n" in value:
        return value.translate(_LABEL_ESCAPES)
    return value


def labels(**values: str) -> Labels:
    """Return labels in braces."""
    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in values.items()) + "}"


class Exposition:
    """An answer to one scrape, family by family."""

    def __init__(self, *, is_openmetrics: bool) -> None:
        self._is_openmetrics = is_openmetrics
        self._lines: list[str] = []

    def add_lines(self, family: Family, lines: list[str]) -> None:
        """Add a family by its samples' lines. One without samples is left out."""
        if lines:
            self._lines += family.heading(is_openmetrics=self._is_openmetrics)
            self._lines += lines

    def add(self, family: Family, value: Value | None) -> None:
        """Add a family with one sample; None: leave it out."""
        if value is not None:
            self.add_all(family, {"": value})

    def add_all(self, family: Family, samples: Mapping[Labels, Value]) -> None:
        """Add a family with any number of samples."""
        self.add_lines(family, [f"{family.name}{labels} {value}" for labels, value in samples.items()])

    def add_histograms(self, family: Family, histograms: Iterable[tuple[Labels, Histogram]]) -> None:
        """Add a family of histograms."""
        lines: list[str] = []
        for own, histogram in histograms:
            prefix = f"{{{own[1:-1]}," if own else "{"
            count = 0
            for bound, more in zip((*histogram.bounds, None), histogram.counts, strict=True):
                count += more
                most = "+Inf" if bound is None else float(bound)
                lines.append(f'{family.name}_bucket{prefix}le="{most}"}} {count}')
            lines.append(f"{family.name}_sum{own} {histogram.total}")
            lines.append(f"{family.name}_count{own} {count}")
        self.add_lines(family, lines)

    def encoded(self) -> bytes:
        """Return the whole answer."""
        end = ["# EOF"] if self._is_openmetrics else []
        return "\n".join([*self._lines, *end, ""]).encode()
