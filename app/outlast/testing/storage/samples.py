"""Processes and output for tests of storage."""

from outlast.model.options import HealthCheck, HealthCheckType, Limits, Options, Restart, RestartPolicy
from outlast.model.output import Chunk, GapReason, Position, Stream, count_lines
from outlast.model.process import ExitStatus, ProcessSpec, Reason, Run
from outlast.model.ulid import new_ulid
from outlast.storage.base import AddProcess, EndRun, Storage

EPOCH_MS = 1_710_000_000_000
"""Start of the tests' first process: 2024-03-09T16:00:00Z."""

OPTIONS = Options(
    timeout_ms=1500,
    stop_signal=2,
    stop_grace_ms=0,
    success_exit_codes=(2, 143),
    ready_log="ready",
    nice=-5,
    limits=Limits(open_files=64, cpus=0.5),
    restart=Restart(policy=RestartPolicy.ALWAYS, max_restarts=3, delay_ms=7),
    health_check=HealthCheck(type=HealthCheckType.TCP, port=80),
)
"""Options that all differ from their defaults."""


def new_process(
    *, pid: int = 4711, started_at_ms: int = EPOCH_MS, name: str | None = None, key: str | None = None, **tags: str
) -> AddProcess:
    """Return the change that adds a process with a new id. `key` is its `idempotency_key`."""
    spec = ProcessSpec(
        id=new_ulid(started_at_ms), command="/bin/true", working_dir="/", name=name, tags=tags, idempotency_key=key
    )
    return AddProcess(spec, Run(pid=pid, started_at_ms=started_at_ms))


async def added(storage: Storage, change: AddProcess | None = None) -> int:
    """Commit one new process and return its handle."""
    change = change or new_process()
    handles = await storage.commit([change])
    return handles[change.spec.id]


def end_of(handle: int, *, exit_code: int = 0, run: int = 1) -> EndRun:
    """Return the change that ends a run with an exit code."""
    ending = ExitStatus(reason=Reason.EXITED, exit_code=exit_code, ended_at_ms=EPOCH_MS + 60_000)
    return EndRun(handle, run, ending)


class Output:
    """A source of one process's output, in chunks that follow one another."""

    def __init__(self, handle: int, position: Position | None = None) -> None:
        self.handle = handle
        self.position = position or Position()

    def chunk(
        self,
        data: bytes,
        stream: Stream = Stream.STDOUT,
        *,
        ts_ms: int = EPOCH_MS,
        run: int = 1,
        continues: bool = False,
    ) -> Chunk:
        """Return the next chunk, with `data` (at least one byte).

        `continues`: it begins with the rest of the stream's unfinished line, if there is one of this run.
        """
        before = self.position
        line = before.unfinished_line(stream)
        chunk = Chunk(
            handle=self.handle,
            run=run,
            first_seq=before.last_seq + 1,
            line_count=count_lines(data),
            stream=stream,
            ts_ms=ts_ms,
            stdout_end=before.stdout_end + len(data) * (stream is Stream.STDOUT),
            stderr_end=before.stderr_end + len(data) * (stream is Stream.STDERR),
            data=data,
            continues=line.first_seq if continues and line is not None and line.run == run else 0,
        )
        self.position = before.after(chunk)
        return chunk

    def gap(
        self,
        missing_bytes: int = 0,
        stream: Stream = Stream.STDOUT,
        *,
        reason: GapReason = GapReason.LOST,
        ts_ms: int = EPOCH_MS,
        run: int = 1,
        passed_over: int = 0,
    ) -> Chunk:
        """Return the next chunk as a gap of `missing_bytes`, whose number is `passed_over` greater than the next."""
        chunk = Chunk.gap_after(
            self.position,
            handle=self.handle,
            run=run,
            stream=stream,
            missing_bytes=missing_bytes,
            reason=reason,
            ts_ms=ts_ms,
            passed_over=passed_over,
        )
        self.position = self.position.after(chunk)
        return chunk
