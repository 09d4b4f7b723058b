"""For authors of storage plug-ins: the suite that proves one. Needs the extra `outlast[testing]`."""

import pytest

# a failing assert of the suite shows its values, as one in a test file does
pytest.register_assert_rewrite(
    "outlast.testing.storage.events",
    "outlast.testing.storage.listing",
    "outlast.testing.storage.managed",
    "outlast.testing.storage.output",
    "outlast.testing.storage.processes",
    "outlast.testing.storage.stateful",
    "outlast.testing.storage.usage",
)
