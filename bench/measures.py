"""All measures, in the order in which they run."""

from bench import flood, latency, memory, recovery, start
from bench.measure import Measure

MEASURES: dict[str, Measure] = {
    each.name: each
    for each in (
        *flood.MEASURES,
        latency.MEASURE,
        start.MEASURE,
        memory.MEASURE,
        recovery.MEASURE,
    )
}
