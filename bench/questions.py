"""What is asked of a daemon that has a history (`bench.history`), and how long the answers take."""

import contextlib
import http.client
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.history import MARK, NIGHTLY, TALKER, TEAMS
from bench.serving import Outlast

_NDJSON = "application/x-ndjson"
_PATIENCE_S = 60.0
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
class Took:
    """What an answer takes, in milliseconds: the median until it is there; the daemon's processor time, on average."""

    wall_ms: float
    cpu_ms: float


class Caller:
    """Calls one daemon over a connection that stays open."""

    def __init__(self, server: Outlast) -> None:
        self._server = server
        self._headers = server.headers
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=_PATIENCE_S)

    def get(self, path: str, accept: str = "application/json") -> bytes:
        """Make a call and return its whole answer.

        Raises:
            RuntimeError: it was refused.
        """
        return self._answer("GET", path, None, {**self._headers, "Accept": accept})

    def post(self, path: str, body: Any) -> bytes:
        """Likewise, with a body."""
        headers = {**self._headers, "Content-Type": "application/json"}
        return self._answer("POST", path, json.dumps(body).encode(), headers)

    def _answer(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        self._connection.request(method, f"/api/v1{path}", body, dict(headers))
        response = self._connection.getresponse()
        raw = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {raw.decode()}")
        return raw

    def first_event(self, path: str) -> None:
        """Follow, until the first event has come.

        Raises:
            RuntimeError: none comes.
        """
        server = self._server
        with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=_PATIENCE_S)) as following:
            following.request("GET", f"/api/v1{path}", headers=self._headers)
            response = following.getresponse()
            if not any(line.startswith(b"event: output") for line in response):
                raise RuntimeError(f"GET {path}: {response.status}, and no line of output")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


Question = Callable[[Caller], object]


def queries(caller: Caller) -> dict[str, Question]:
    """Make the questions that fit what the daemon's store holds."""
    newest, middle, after = _landmarks(caller)
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
        "follow, tail": lambda asking: asking.first_event(f"{talker}/follow?tail=100"),
        "follow from the beginning": lambda asking: asking.first_event(f"{talker}/follow"),
        **{f"search, {name}": _get(f"/search?{query}") for name, query in searches.items()},
        "events, tail": _get("/events?tail=100", _NDJSON),
        "events, tail of a rare type": _get("/events?tail=100&type=lost", _NDJSON),
        "events of one": _get(f"/events?process={middle['id']}", _NDJSON),
        "sql, last lines of the newest": lambda asking: asking.post(
            "/sql", {"query": _LAST_LINES, "parameters": [NIGHTLY]}
        ),
        "start": lambda asking: asking.post("/processes", {"command": "/bin/true"}),
    }


def ask(server: Outlast, caller: Caller, question: Question, times: int) -> Took:
    """Ask `times` times, and see what that takes. A first answer, which finds nothing in any cache, is not counted."""
    question(caller)
    walls: list[float] = []
    began_cpu = processor_s(server.pid)
    for _ in range(times):
        began = time.perf_counter()
        question(caller)
        walls.append(time.perf_counter() - began)
    return Took(statistics.median(walls) * 1000, (processor_s(server.pid) - began_cpu) / times * 1000)


def processor_s(pid: int) -> float:
    """Return what a process's threads have taken of the processors."""
    taken_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            taken_ns += int((thread / "schedstat").read_text(encoding="utf-8").split()[0])
    return taken_ns / 1e9


def _get(path: str, accept: str = "application/json") -> Question:
    return lambda asking: asking.get(path, accept)


def _landmarks(caller: Caller) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the newest process of the history, one in the middle of it, and a cursor that goes on behind that."""
    [newest] = json.loads(caller.get(f"/processes?name={NIGHTLY}&limit=1"))["processes"]
    [oldest] = json.loads(caller.get("/processes?order=oldest&limit=1"))["processes"]
    half_ms = (newest["started_at"] + oldest["started_at"]) // 2
    page = json.loads(caller.get(f"/processes?until={half_ms}&limit=1"))
    return newest, page["processes"][0], page["next"]
