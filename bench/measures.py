"""All measures, in the order in which they run."""

from bench import aged, disk, flood, latency
from bench.measure import Measure

MEASURES: dict[str, Measure] = {
    each.name: each
    for each in (
        *flood.MEASURES,
        latency.MEASURE,
        aged.MEASURE,
        disk.MEASURE,
    )
}
