"""Totals: what commits count for them."""

from outlast.model.retention import Rule
from outlast.model.totals import Tally


def test_what_removes_nothing_changes_no_total() -> None:
    """A total that is not changed is not written."""
    tally = Tally()
    tally.count_removed(Rule.ENDED, 0)
    assert dict(tally) == {}
