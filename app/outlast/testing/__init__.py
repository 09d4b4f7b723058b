"""Tests for authors of storage plug-ins. Needs the extra `outlast[testing]`."""

import pytest

# A failing assert of the suite then shows its values, as an assert in a test file does. All modules below are meant.
pytest.register_assert_rewrite("outlast.testing.storage")
