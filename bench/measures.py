"""All measures, in the order in which they run."""

from bench import (
    aged_store,
    compression,
    disk,
    flood,
    followers,
    latency,
    library,
    many,
    memory,
    recovery,
    replay,
    start,
    terminals,
)
from bench.measure import Measure

MEASURES: dict[str, Measure] = {
    each.name: each
    for each in (
        *flood.MEASURES,
        *many.MEASURES,
        latency.MEASURE,
        replay.MEASURE,
        library.MEASURE,
        followers.MEASURE,
        *start.MEASURES,
        memory.MEASURE,
        recovery.MEASURE,
        aged_store.MEASURE,
        disk.MEASURE,
        compression.MEASURE,
        *terminals.MEASURES,
    )
}
