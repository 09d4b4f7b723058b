"""The suite that proves a storage plug-in: the promises of the contract in `outlast.storage.base`, as tests.

In the plug-in's own tests:

    from pathlib import Path

    from outlast.storage.base import Storage
    from outlast.storage.registry import storage_from_url
    from outlast.testing.storage.conformance import StorageConformance


    class TestMyStorage(StorageConformance):
        persistent = True

        def make_storage(self, folder: Path) -> Storage:
            return storage_from_url(f"mystore:{folder}/data")

pytest collects the inherited tests. They need pytest and pytest-asyncio, in any asyncio mode. A state machine, in
`outlast.testing.storage.stateful`, complements them.
"""

from outlast.testing.storage.durability import DurabilityConformance
from outlast.testing.storage.events import EventConformance
from outlast.testing.storage.figures import FiguresConformance
from outlast.testing.storage.listing import ListingConformance
from outlast.testing.storage.managed import ManagedConformance
from outlast.testing.storage.output import OutputConformance
from outlast.testing.storage.processes import ProcessConformance
from outlast.testing.storage.retention import RetentionConformance
from outlast.testing.storage.scan import ScanConformance
from outlast.testing.storage.terminals import TerminalConformance
from outlast.testing.storage.trimming import TrimmingConformance
from outlast.testing.storage.usage import UsageConformance
from outlast.testing.storage.whole_lines import WholeLineConformance


class StorageConformance(
    ProcessConformance,
    ManagedConformance,
    ListingConformance,
    OutputConformance,
    WholeLineConformance,
    EventConformance,
    UsageConformance,
    TerminalConformance,
    FiguresConformance,
    ScanConformance,
    RetentionConformance,
    TrimmingConformance,
    DurabilityConformance,
):
    """The whole suite. A test class inherits it, overrides `make_storage`, and sets `persistent` and `durable`."""
