"""Signals and kills of trees, without processes."""

from unittest.mock import Mock

import pytest

from outlast.shim.kill import killer, tree
from outlast.shim.kill.killer import Killer
from outlast.shim.kill.tree import Member, Orphan


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


def test_a_kill_that_is_repeated_knows_when_the_tree_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An orphan from before does not belong to the tree, also when the shim has forgotten the process meanwhile."""
    monkeypatch.setattr(tree, "kill_tree", lambda *_args, **_options: set())
    monkeypatch.setattr(tree, "find_orphans", lambda _known: [Orphan(7, 99, 7, None), Orphan(8, 100, 8, None)])
    child = Mock(pid=30, id="01", reaped=True, since_ticks=100)
    children = [child]
    kill = Killer(Mock(), lambda: iter(children), None, "secret").kill
    first = kill("01")
    children.clear()
    assert (first.strays, first.since_ticks) == ([8], 100)
    assert kill("01", first.since_ticks) == first
    assert kill("01").strays == [7, 8]
