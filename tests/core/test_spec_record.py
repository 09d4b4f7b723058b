"""The record that the shim keeps of a start is enough to store the process."""

import json

from outlast.core.supervision.spec_record import spec_from_record, spec_to_record
from outlast.model.options import Options
from outlast.model.process import OutputMode, ProcessSpec, StdinMode
from outlast.testing.storage.samples import OPTIONS

SPEC = ProcessSpec(
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    command="sh",
    args=("-c", "é"),
    env_keys=("A", "B"),
    working_dir="/",
    user="1000:1000",
    stdin_mode=StdinMode.PIPE,
    stdout_mode=OutputMode.DISCARD,
    name="web",
    tags={"team": "a"},
    idempotency_key="deploy 7",
    options=OPTIONS,
)


def test_a_record_holds_the_whole_specification() -> None:
    assert spec_from_record(json.loads(json.dumps(spec_to_record(SPEC)))) == SPEC


def test_a_record_of_an_older_daemon_is_read() -> None:
    record = json.loads(json.dumps(spec_to_record(SPEC)))
    del record["idempotency_key"], record["options"]
    read = spec_from_record(record)
    assert (read.idempotency_key, read.options) == (None, Options())
