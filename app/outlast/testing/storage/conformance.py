"""The suite that proves a storage plug-in: what the contract in `outlast.storage.base` promises, as tests.

In the plug-in's own tests:

    from pathlib import Path
    from outlast.storage.registry import storage_from_url
    from outlast.testing.storage.conformance import StorageConformance

    class TestMyStorage(StorageConformance):
        persistent = True

        def make_storage(self, folder: Path) -> Storage:
            return storage_from_url(f"mine:{folder}/data")

pytest collects the inherited tests. They need pytest and pytest-asyncio. `outlast.testing.storage.stateful` has a
state machine beside them, which needs hypothesis.
"""

from outlast.testing.storage.events import EventConformance
from outlast.testing.storage.listing import ListingConformance
from outlast.testing.storage.managed import ManagedConformance
from outlast.testing.storage.output import OutputConformance
from outlast.testing.storage.processes import ProcessConformance
from outlast.testing.storage.scan import ScanConformance
from outlast.testing.storage.usage import UsageConformance


class StorageConformance(
    ProcessConformance,
    ManagedConformance,
    ListingConformance,
    OutputConformance,
    EventConformance,
    UsageConformance,
    ScanConformance,
):
    """Subclass it, override `make_storage`, and state the ability `persistent`."""
