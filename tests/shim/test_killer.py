"""The order in which a tree is signalled."""

from unittest.mock import Mock

import pytest

from outlast.shim.kill import killer, tree
from outlast.shim.kill.killer import Killer
from outlast.shim.kill.tree import Member


def test_a_process_is_signalled_before_its_descendants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a shell that waits for a child could exit by itself, with a code, before its own signal comes."""
    signalled: list[int] = []
    members = {Member(pid, 1) for pid in range(2, 40)}
    monkeypatch.setattr(killer, "has_ended", lambda _pidfd: False)
    monkeypatch.setattr(tree, "find_tree", lambda _leader, _mark: members)
    monkeypatch.setattr(tree, "signal_exactly", lambda member, _number: signalled.append(member.pid))
    child = Mock(pid=30, id="01", reaped=False)
    Killer(Mock(), lambda: iter([child]), None, "secret").signal(child, 15, "tree")
    assert signalled[0] == 30
    assert sorted(signalled) == list(range(2, 40))
