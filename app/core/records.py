"""A process's specification as JSON: what the shim keeps, so that a start is recorded also if its daemon dies."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.model.options import Options
from app.model.process import OutputMode, ProcessSpec, StdinMode


def spec_to_record(spec: ProcessSpec) -> dict[str, Any]:
    """Return what `spec_from_record` reads."""
    return {**asdict(spec), "options": spec.options.to_record()}


def spec_from_record(record: Mapping[str, Any]) -> ProcessSpec:
    """Read back what `spec_to_record` made."""
    return ProcessSpec(
        **{
            **record,
            "args": tuple(record["args"]),
            "env_keys": tuple(record["env_keys"]),
            "stdin_mode": StdinMode(record["stdin_mode"]),
            "stdout_mode": OutputMode(record["stdout_mode"]),
            "stderr_mode": OutputMode(record["stderr_mode"]),
            "options": Options.from_record(record.get("options", {})),
        }
    )
