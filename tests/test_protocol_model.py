"""The model of the protocol (tests/protocol_model) keeps its promises, and would not without each of its mechanisms."""

import sys

import pytest

from tests.protocol_model import Design, search
from tests.protocol_model.cases import BROKEN, SOUND


@pytest.mark.parametrize("name", SOUND)
def test_every_promise_is_kept(name: str) -> None:
    result = search(SOUND[name])
    sys.stdout.write(f"{name}: {result.states} states\n")
    assert result.promise is None, "\n".join(result.trace)
    assert result.states > 5_000, "there should be more to explore"


@pytest.mark.parametrize("name", BROKEN)
def test_the_model_can_fail(name: str) -> None:
    result = search(BROKEN[name].model)
    sys.stdout.write(f"{name}: {result.states} states, {len(result.trace)} steps\n")
    assert result.promise == BROKEN[name].promise
    assert result.trace


def test_a_gate_that_opens_too_early_is_found_where_both_die() -> None:
    trace = search(BROKEN["a gate that opens when the daemon was told"].model).trace
    assert {"the daemon is KILLED", "the shim is KILLED"} <= set(trace)


def test_every_mechanism_is_tried() -> None:
    tried = {
        field
        for case in BROKEN.values()
        for field, value in case.model.design._asdict().items()
        if value != Design._field_defaults[field]
    }
    assert tried == set(Design._fields)
