"""`keep` of a start: what is accepted, what is refused, and what becomes of it."""

from typing import Any

import pytest
from marshmallow import ValidationError

from outlast.api.schemas.processes import StartBody
from outlast.model.options import Keep, Options
from tests.support.daemon import Daemon


@pytest.mark.parametrize(
    ("given", "keep"),
    [
        ("always", Keep(always=True)),
        ({}, Keep()),
        ({"output_s": 0, "bytes": 5, "ended_s": None}, Keep(output_s=0, bytes=5)),
        ({"ended_s": 60}, Keep(ended_s=60)),
        (None, None),
    ],
)
def test_forms(given: Any, keep: Keep | None) -> None:
    options = StartBody().load({"command": "x", "keep": given}).options
    assert options.keep == keep
    assert Options.from_record(options.to_record()) == options


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("never", 'keep must be "always" or a JSON object'),
        (True, 'keep must be "always" or a JSON object'),
        ([], 'keep must be "always" or a JSON object'),
        ({"bytes": -1}, "keep.bytes must be an integer from 0 to"),
        ({"bytes": "1 MiB"}, "keep.bytes must be an integer from 0 to"),
        ({"output_s": 1.5}, "keep.output_s must be an integer from 0 to"),
        ({"ended_s": True}, "keep.ended_s must be an integer from 0 to"),
        ({"always": True}, "keep.always"),
    ],
)
async def test_what_is_wrong_is_named(daemon: Daemon, given: Any, says: str) -> None:
    answer = await daemon.call("POST", "/processes", 400, body={"command": "true", "keep": given})
    assert says in answer["error"]


def test_an_unknown_limit_is_refused() -> None:
    with pytest.raises(ValidationError):
        StartBody().load({"command": "x", "keep": {"lines": 5}})
