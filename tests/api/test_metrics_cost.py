"""A scrape of a thousand named processes costs what its lines cost, and no more for each than for a few."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from outlast.api.metrics.exposition import Exposition
from outlast.api.metrics.process_families import add_processes
from outlast.core.managed.registry import ManagedProcess, ManagedRegistry
from outlast.core.metrics import MetricsReader
from outlast.core.supervision.live_process import LiveProcess
from outlast.model.managed import HealthStatus, ManagedState
from outlast.model.output import Position
from outlast.model.process import ExitStatus, Process, ProcessSpec, Reason, Run
from outlast.model.ulid import new_ulid
from outlast.model.usage import UsageSample
from outlast.shimlink import HeldProcess

SERIES = 13
"""Number of series of one process that has all of them."""


def reader(count: int) -> MetricsReader:
    """Return a reader of `count` named processes."""
    registry = ManagedRegistry()
    for number in range(count):
        spec = ProcessSpec(id=new_ulid(1), command="x", working_dir="/", name=f"service-{number}", tags={"team": "a"})
        run = Run(number=2, pid=3, started_at_ms=1_710_000_000_000 + number)
        held = HeldProcess(pid=3, started_at_ms=1, group=None, pidfd=None, stdin=None, streams={})
        live = LiveProcess(spec, run, 1, held, 0.0)
        for _ in range(120):
            live.usage.add_sample(UsageSample(1_710_000_000_000, 1, 2, 10, 1234, 567, 12_345_678, None), keep=True)
        live.position = Position(stdout_end=123_456, stderr_end=7)
        live.last_output_ms = 1_710_000_000_123
        last_exit = ExitStatus(reason=Reason.EXITED, exit_code=1, ended_at_ms=5)
        state = ManagedState(health_run=2, health=HealthStatus.HEALTHY, last_exit=last_exit)
        registry.register(ManagedProcess(Process(handle=number, spec=spec, run=run, managed=state), live))
    others: Any = cast("Any", None)
    return MetricsReader(
        storage=others,
        committer=others,
        supervisor=others,
        registry=registry,
        starter=others,
        followers=lambda: (0, 0),
        state_dir=Path("/"),
    )


def text(source: MetricsReader) -> bytes:
    exposition = Exposition(is_openmetrics=True)
    add_processes(exposition, source.named_processes(), ("team",))
    return exposition.encoded()


def cost_s(work: Callable[[], object]) -> float:
    """Return the processor time of `work`, the least of several calls."""
    costs = []
    for _ in range(9):
        began = time.process_time()
        work()
        costs.append(time.process_time() - began)
    return min(costs)


async def test_a_scrape_costs_a_few_times_what_its_lines_cost() -> None:
    """About 10 ms where making the lines alone, each with its value, takes 5."""
    source = reader(1000)
    assert text(source).count(b'name="service-') == SERIES * 1000

    def lines_alone() -> None:
        for number in range(SERIES):
            "\n".join(
                [
                    f'outlast_process_x{{name="service-{each}",tag_team="a"}} {each * number / 1000}'
                    for each in range(1000)
                ]
            )

    assert cost_s(lambda: text(source)) < 5 * cost_s(lines_alone)


async def test_the_cost_of_a_process_does_not_grow_with_their_number() -> None:
    few, many = reader(100), reader(1000)
    # Ten times as many cost some ten times as much; a hundred times is what may not be.
    assert cost_s(lambda: text(many)) < 30 * cost_s(lambda: text(few))
