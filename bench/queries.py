"""Queries to a daemon that has a history (`bench.history`), and how long the answers take."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bench.client import Client
from bench.history import MARK, NIGHTLY, TALKER, TEAMS
from bench.serving import Outlast
from harness.proc import cpu_s

_NDJSON = "application/x-ndjson"
_LAST_LINES = """
SELECT seq, time, stream, line
FROM (
    SELECT seq, time, stream, line
    FROM output_tail
    WHERE process_id = (SELECT id FROM processes WHERE name = ? ORDER BY handle DESC LIMIT 1)
    ORDER BY seq DESC LIMIT 50
)
ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class QueryTimes:
    """Milliseconds of an answer: the median until it has arrived, and the daemon's mean processor time."""

    wall_ms: float
    cpu_ms: float


Query = Callable[[Client], object]


def queries(client: Client) -> dict[str, Query]:
    """Return queries that fit what the store holds, by name."""
    newest, middle, after = _landmarks(client)
    one = f"/processes/{middle['id']}"
    talker = f"/processes/{TALKER}/output"
    team = quote(f"team:team-{TEAMS - 1}")
    lists = {
        "newest": "limit=100",
        "in the middle": f"until={middle['started_at']}&limit=100&cursor={quote(after)}",
        "running": "status=running&limit=10",
        "by status": "status=signaled&limit=10",
        "by tag": f"tag={team}&limit=50",
        "by name": f"name={NIGHTLY}&limit=9",
        "by tag and status": f"tag={team}&status=exited&limit=50",
    }
    searches = {
        "newest lines": f"q={quote(MARK)}&limit=10",
        "in one process": f"q={quote(MARK)}&process={middle['id']}",
        "in vain, the last ten minutes": f"q=nobody&since={newest['started_at'] - 600_000}",
    }
    return {
        **{f"list, {name}": _get(f"/processes?{query}") for name, query in lists.items()},
        "one, by id": _get(one),
        "one, by pid": _get(f"/processes/{newest['pid']}"),
        "one, by name": _get(f"/processes/{NIGHTLY}"),
        "stats of one": _get(f"{one}/stats"),
        "runs of one": _get(f"/processes/{NIGHTLY}/runs"),
        "output, tail": _get(f"{talker}?tail=100"),
        "output, since": _get(f"{talker}?since={middle['started_at']}&limit=100"),
        "follow, tail": lambda client: client.wait_for_output_event(f"{talker}/follow?tail=100"),
        "follow from the beginning": lambda client: client.wait_for_output_event(f"{talker}/follow"),
        **{f"search, {name}": _get(f"/search?{query}") for name, query in searches.items()},
        "events, tail": _get("/events?tail=100", _NDJSON),
        "events, tail of a rare type": _get("/events?tail=100&type=lost", _NDJSON),
        "events of one": _get(f"/events?process={middle['id']}", _NDJSON),
        "sql, last lines of the newest": lambda client: client.post(
            "/sql", {"query": _LAST_LINES, "parameters": [NIGHTLY]}
        ),
        "start": lambda client: client.post("/processes", {"command": "/bin/true"}),
    }


def time_query(server: Outlast, client: Client, query: Query, times: int) -> QueryTimes:
    """Make a query `times` times, and return the times. A first answer, with cold caches, is not counted."""
    query(client)
    walls: list[float] = []
    began_cpu = cpu_s(server.pid)
    for _ in range(times):
        began = time.perf_counter()
        query(client)
        walls.append(time.perf_counter() - began)
    return QueryTimes(statistics.median(walls) * 1000, (cpu_s(server.pid) - began_cpu) / times * 1000)


def _get(path: str, accept: str = "application/json") -> Query:
    return lambda client: client.get(path, accept)


def _landmarks(client: Client) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the newest process of the history, one in the middle of it, and a cursor that goes on behind that."""
    [newest] = json.loads(client.get(f"/processes?name={NIGHTLY}&limit=1"))["processes"]
    [oldest] = json.loads(client.get("/processes?order=oldest&limit=1"))["processes"]
    half_ms = (newest["started_at"] + oldest["started_at"]) // 2
    page = json.loads(client.get(f"/processes?until={half_ms}&limit=1"))
    return newest, page["processes"][0], page["next"]
