"""Scrapes of a daemon, read by the parsers of Prometheus's own client library."""

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.daemon import Daemon

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"


class Scrape:
    """The samples of one scrape.

    Attributes:
        text: the whole answer.
        values: each sample's value, by name and labels.
        kinds: the type of each family.
    """

    def __init__(self, text: str, content_type: str) -> None:
        self.text = text
        is_openmetrics = content_type.startswith(OPENMETRICS)
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.kinds: dict[str, str] = {}
        for family in parse_openmetrics(text) if is_openmetrics else parse_text(text):  # type: ignore[no-untyped-call]
            assert family.name not in self.kinds, family.name
            self.kinds[family.name] = family.type
            assert family.documentation
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values, key
                self.values[key] = sample.value

    def __call__(self, name: str, /, **labels: str) -> float | None:
        """Return the value of a sample; None: there is no such sample."""
        return self.values.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {name for name, _ in self.values}

    def of(self, process: str) -> dict[str, float]:
        """Return the values of a process's series, by name and further labels: `NAME/LABEL`."""
        return {
            "/".join([name, *sorted(value for label, value in labels if label != "name")]): found
            for (name, labels), found in self.values.items()
            if ("name", process) in labels
        }


async def scrape(daemon: Daemon, form: str = TEXT) -> Scrape:
    """Scrape a daemon."""
    headers: dict[str, Any] = {"Accept": form, "Authorization": f"Bearer {daemon.token}"}
    async with daemon.session.get(f"{daemon.url}/metrics", headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return Scrape(text, answer.headers["Content-Type"])
