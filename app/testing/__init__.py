"""For authors of storage plug-ins: the suite that proves one. Needs the extra `outlast[testing]`."""

import pytest

# a failing assert of the suite shows its values, as one in a test file does
pytest.register_assert_rewrite(
    "app.testing.storage_events",
    "app.testing.storage_listing",
    "app.testing.storage_output",
    "app.testing.storage_processes",
    "app.testing.storage_stateful",
)
