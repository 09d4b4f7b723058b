"""Tests for authors of storage plug-ins. Needs the extra `outlast[testing]`."""

import pytest

# Asserts of the suite that fail then show their values, as in a test file. The name includes all modules below it.
pytest.register_assert_rewrite("outlast.testing.storage")
