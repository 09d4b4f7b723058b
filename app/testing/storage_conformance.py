"""The suite that proves a storage plug-in: what the contract in `app.storage.base` promises, as tests.

In the plug-in's own tests:

    from pathlib import Path
    from app.storage.registry import storage_from_url
    from app.testing.storage_conformance import StorageConformance

    class TestMyStorage(StorageConformance):
        persistent = True

        def make_storage(self, folder: Path) -> Storage:
            return storage_from_url(f"mine:{folder}/data")

pytest collects the inherited tests. They need pytest and pytest-asyncio. `app.testing.storage_stateful` has a
state machine beside them, which needs hypothesis.
"""

from app.testing.storage_events import EventConformance
from app.testing.storage_listing import ListingConformance
from app.testing.storage_managed import ManagedConformance
from app.testing.storage_output import OutputConformance
from app.testing.storage_processes import ProcessConformance
from app.testing.storage_scan import ScanConformance
from app.testing.storage_usage import UsageConformance


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
