"""Descriptions of processes: their JSON, which changes only with the protocol's version, and their descriptors."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from outlast.wire.description import ProcessDescription, ProcessFds, StreamDescription, StreamFds

DESCRIPTION = ProcessDescription(
    pid=42,
    started_at_ms=1_700_000_000_000,
    group="/sys/fs/cgroup/outlast-1-2/01",
    has_pidfd=True,
    is_waiting=True,
    is_starting=True,
    failed=None,
    timeout_ms=5000,
    deadline_ms=None,
    stdin_open=True,
    exited=None,
    streams=[
        StreamDescription(1, is_open=True, trimmed_to=7, sent_to=8, segments=[(0, None), (9, "/spool/01.1.9")]),
        StreamDescription(2, is_open=False, trimmed_to=0, sent_to=0, segments=[(0, None)]),
    ],
    frames=[[1, 1_700_000_000_001, 7, 2]],
)
JSON: Mapping[str, Any] = {
    "pid": 42,
    "started_at_ms": 1_700_000_000_000,
    "group": "/sys/fs/cgroup/outlast-1-2/01",
    "has_pidfd": True,
    "is_waiting": True,
    "is_starting": True,
    "failed": None,
    "timeout_ms": 5000,
    "deadline_ms": None,
    "stdin_open": True,
    "exited": None,
    "streams": [
        {"stream": 1, "open": True, "trimmed_to": 7, "sent_to": 8, "segments": [[0, None], [9, "/spool/01.1.9"]]},
        {"stream": 2, "open": False, "trimmed_to": 0, "sent_to": 0, "segments": [[0, None]]},
    ],
    "frames": [[1, 1_700_000_000_001, 7, 2]],
}
ENDS = [[2, 1_700_000_000_002, 4, 0]]


@pytest.mark.parametrize(
    ("description", "message"), [(DESCRIPTION, JSON), (DESCRIPTION._replace(ends=ENDS), {**JSON, "ends": ENDS})]
)
def test_a_description_keeps_its_json(description: ProcessDescription, message: Mapping[str, Any]) -> None:
    assert json.loads(json.dumps(description.to_json())) == message
    received = ProcessDescription.from_json({**message, "slot": 3, "fds": 8})
    assert received.to_json() == message


def test_descriptors_keep_their_order() -> None:
    fds = list(range(10, 19))
    own = ProcessFds.assign(DESCRIPTION, fds)
    assert own == ProcessFds(
        pidfd=10, start=[11, 12, 13], stdin=14, streams=[StreamFds(15, [16, 17]), StreamFds(None, [18])]
    )
    assert own.in_order() == fds


def test_a_terminal_has_its_relay_behind_all_that_older_programs_know() -> None:
    stream = DESCRIPTION.streams[0]._replace(has_relay=True)
    terminal = DESCRIPTION._replace(streams=[stream])
    message = json.loads(json.dumps(terminal.to_json()))
    assert message["streams"] == [{**JSON["streams"][0], "has_relay": True}]
    assert ProcessDescription.from_json(message).streams[0].has_relay
    fds = list(range(10, 20))
    own = ProcessFds.assign(terminal, fds)
    assert own.streams == [StreamFds(15, [16, 17], relay=[18, 19])]
    assert own.in_order() == fds


def test_missing_descriptors_are_left_out() -> None:
    ended = DESCRIPTION._replace(has_pidfd=False, is_waiting=False, stdin_open=False, streams=[])
    assert ProcessFds.assign(ended, [10, 11]) == ProcessFds(pidfd=None, start=[10, 11], stdin=None, streams=[])
