"""What a process looks like to a caller."""

from dataclasses import asdict
from typing import Any

from app.core.views import ProcessView
from app.model.process import Status


def process_info(view: ProcessView) -> dict[str, Any]:
    """Make the contract's ProcessInfo; `answers.ProcessInfo` documents it field by field."""
    process = view.process
    spec, run, output = process.spec, process.run, process.output
    ending = run.ending
    return {
        "pid": run.pid,
        "handle": process.handle,
        "id": spec.id,
        "status": run.status,
        "reason": ending.reason if ending else None,
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "oom_killed": run.status is Status.OOM_KILLED,
        "stdin_writable": view.stdin_writable,
        "command": spec.command,
        "args": spec.args,
        "started_at": run.started_at_ms,
        "ended_at": ending.ended_at_ms if ending else None,
        "managed": None,
        "name": spec.name,
        "tags": dict(spec.tags),
        "working_dir": spec.working_dir,
        "user": spec.user,
        "nice": spec.options.nice,
        "limits": {name: value for name, value in asdict(spec.options.limits).items() if value is not None},
        "stdin_mode": spec.stdin_mode,
        "stdout_mode": spec.stdout_mode,
        "stderr_mode": spec.stderr_mode,
        "run": run.number,
        "output": {
            "lines": output.lines,
            "bytes": output.bytes,
            "first_seq": output.first_seq,
            "last_seq": output.last_seq,
        },
    }
