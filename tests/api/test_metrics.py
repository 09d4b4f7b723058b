"""The answer to a scrape: its two formats, labels of any content, and bounds on the number of series."""

import re
import subprocess
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from outlast.api.metrics import families
from outlast.core.metrics import NamedProcessFigures
from outlast.model.output import GapReason, Stream
from outlast.model.process import Reason
from outlast.model.retention import Rule
from outlast.model.totals import NO_LABEL, Counted, StartResult, StoreFigures
from outlast.model.usage import UsageSample
from outlast.shimlink import ShimUsage
from tests.support.metrics import OPENMETRICS, TEXT, Scrape
from tests.support.required import program

from .server import Server, serving
from .stub import StubManager

ROOT = Path(__file__).parents[2]
FULL = StoreFigures(
    totals={
        (Counted.STARTS, StartResult.RECORDED): 7,
        (Counted.STARTS, StartResult.FAILED): 2,
        (Counted.RESTARTS, NO_LABEL): 5,
        (Counted.ENDS, Reason.OOM_KILLED): 3,
        (Counted.OUTPUT_BYTES, Stream.STDERR.word): 1 << 60,
        (Counted.OUTPUT_LINES, Stream.STDOUT.word): 9,
        (Counted.GAPS, GapReason.LOST): 1,
        (Counted.REMOVED_BYTES, Rule.TOTAL_BYTES): 1 << 40,
        (Counted.REMOVED_PROCESSES, Rule.ENDED): 6,
    },
    oldest_output_ms=1_710_000_000_123,
    database_bytes=4096,
    log_bytes=512,
    free_bytes=1024,
)
SHIM = ShimUsage(memory_bytes=100, spool_bytes=200, blocked=3)
AWKWARD = 'é "quoted" \\ \N{PILE OF POO} {x="y"},# EOF'


def named(number: int = 0, **changes: Any) -> NamedProcessFigures:
    """Return the figures of a process that has all of them."""
    figures = NamedProcessFigures(
        name=f"name-{number}",
        tags={"team": "a", "other": "b"},
        is_up=True,
        started_at_ms=1_710_000_000_500,
        runs=3,
        is_healthy=False,
        usage=UsageSample(1, 2, 3, 4, 1500, 250, 4096, None),
        output_bytes=(10, 20),
        last_output_ms=1_710_000_001_250,
        last_exit=137,
    )
    return figures._replace(**changes)


async def scrape(server: Server, accept: str = TEXT) -> Scrape:
    answer = await server.ask("GET", "/metrics", headers={**server.bearer, "Accept": accept})
    assert answer.status == HTTPStatus.OK
    return Scrape(answer.body.decode(), answer.headers["Content-Type"])


@pytest.fixture
def manager() -> StubManager:
    manager = StubManager()
    manager.metrics.figures = replace(manager.metrics.figures, store=FULL, shim=SHIM, refused_starts=4)
    manager.metrics.named = [named()]
    return manager


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
async def test_every_family_is_told_in_both_formats(server: Server, form: str) -> None:
    await scrape(server)  # the second scrape tells of the first
    found = await scrape(server, form)
    histograms = {family.name for family in families.ALL if family.kind == "histogram"}
    expected = {family.name for family in families.ALL} - histograms
    expected |= {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}
    assert found.names() == expected
    for family in families.ALL:
        kind = "gauge" if family.kind == "info" and form == TEXT else family.kind
        assert kind in {found.kinds.get(name) for name in (family.name, re.sub("_(total|info)$", "", family.name))}, (
            family
        )


async def test_figures_come_with_their_labels(server: Server) -> None:
    found = await scrape(server)
    assert found("outlast_build_info", version="1.2.3") == 1
    assert found("outlast_process_starts_total", result="recorded") == 7
    assert found("outlast_process_starts_total", result="failed") == 2
    assert found("outlast_process_starts_total", result="refused") == 4
    assert found("outlast_process_restarts_total") == 5
    assert found("outlast_process_ends_total", reason="oom_killed") == 3
    assert found("outlast_process_ends_total", reason="exited") == 0
    assert found("outlast_output_bytes_total", stream="stderr") == 1 << 60
    assert found("outlast_output_lines_total", stream="stdout") == 9
    assert found("outlast_output_gaps_total", reason="lost") == 1
    assert found("outlast_store_bytes", part="log") == 512
    assert found("outlast_retention_removed_bytes_total", rule="keep_total_bytes") == 1 << 40
    assert found("outlast_retention_removed_bytes_total", rule="keep_ended_s") == 0
    assert found("outlast_retention_removed_processes_total", rule="keep_ended") == 6
    assert found("outlast_shim_buffered_bytes", where="spool") == 200
    assert found("outlast_blocked_processes") == 3
    assert found("outlast_oldest_output_timestamp_seconds") == 1_710_000_000.123
    assert found("outlast_processes", status="ended") == 3
    assert found.of("name-0") == {
        "outlast_process_up": 1,
        "outlast_process_start_time_seconds": 1_710_000_000.5,
        "outlast_process_runs_total": 3,
        "outlast_process_healthy": 0,
        "outlast_process_cpu_seconds_total/user": 1.5,
        "outlast_process_cpu_seconds_total/system": 0.25,
        "outlast_process_resident_memory_bytes": 4096,
        "outlast_process_threads": 3,
        "outlast_process_open_fds": 4,
        "outlast_process_output_bytes_total/stdout": 10,
        "outlast_process_output_bytes_total/stderr": 20,
        "outlast_process_last_output_timestamp_seconds": 1_710_000_001.25,
        "outlast_process_last_exit_code": 137,
    }


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
async def test_a_label_may_have_any_content(manager: StubManager, form: str) -> None:
    manager.metrics.named = [named(name=AWKWARD, tags={"team": f"a\nb{AWKWARD}"})]
    async with serving(manager, metrics_tags=("team", "none.such")) as server:
        found = await scrape(server, form)
    assert found("outlast_process_up", name=AWKWARD, tag_team=f"a\nb{AWKWARD}") == 1


async def test_only_tags_that_the_setting_names_are_labels(manager: StubManager) -> None:
    manager.metrics.named = [named(0, tags={"a.b": "x", "team": "t"}), named(1, tags={})]
    async with serving(manager, metrics_tags=("a.b",)) as server:
        found = await scrape(server)
    assert found("outlast_process_up", name="name-0", tag_a_b="x") == 1
    assert found("outlast_process_up", name="name-1") == 1


async def test_what_is_unknown_is_left_out(manager: StubManager, server: Server) -> None:
    manager.metrics.figures = replace(manager.metrics.figures, store=None, store_works=True, shim=None)
    nothing: dict[str, Any] = dict.fromkeys(
        ("started_at_ms", "is_healthy", "usage", "output_bytes", "last_output_ms", "last_exit")
    )
    manager.metrics.named = [named(is_up=False, **nothing)]
    found = await scrape(server)
    assert found("outlast_store_up") == 0
    assert found("outlast_process_starts_total", result="recorded") is None
    assert found("outlast_output_bytes_total", stream="stdout") is None
    assert found("outlast_blocked_processes") is None
    assert found.of("name-0") == {"outlast_process_up": 0, "outlast_process_runs_total": 3}


async def test_series_beyond_a_thousand_processes_are_left_out_and_counted(
    manager: StubManager, server: Server
) -> None:
    manager.metrics.named = [named(number) for number in range(1000)]
    found = await scrape(server)
    assert found("outlast_metrics_dropped_series") == 0
    per_process = len(found.of("name-0"))
    manager.metrics.named += [named(1000), named(1001, is_healthy=None)]
    found = await scrape(server)
    assert found("outlast_metrics_dropped_series") == 2 * per_process - 1
    assert len(found.of("name-999")) == per_process
    assert found.of("name-1000") == {}


async def test_requests_are_counted_by_route_and_not_by_path(server: Server) -> None:
    for path in ("/api/v1/processes/1", "/api/v1/processes/two", "/nowhere/1", "/nowhere/2"):
        await server.ask("GET", path)
    await server.ask("PROPFIND", "/api/v1/info")
    found = await scrape(server)
    assert found("outlast_http_requests_total", method="GET", route="/api/v1/processes/{ref}", code="200") == 2
    assert found("outlast_http_requests_total", method="GET", route="unmatched", code="404") == 2
    assert found("outlast_http_requests_total", method="other", route="unmatched", code="405") == 1
    assert found("outlast_http_request_duration_seconds_count", method="GET", route="unmatched") == 2
    assert found("outlast_http_request_duration_seconds_bucket", method="GET", route="unmatched", le="+Inf") == 2


async def test_a_stream_is_counted_when_it_begins(manager: StubManager, server: Server) -> None:
    manager.follow_forever = True
    reader, writer = await server.connect(
        f"GET /api/v1/processes/1/output/follow HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {server.bearer['Authorization']}\r\n\r\n".encode()
    )
    assert b"200" in await reader.readline()
    found = await scrape(server)
    route = "/api/v1/processes/{ref}/output/follow"
    assert found("outlast_http_requests_total", method="GET", route=route, code="200") == 1
    writer.close()


OF_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/json", TEXT),
        (OF_PROMETHEUS, OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.1", TEXT),
    ],
)
async def test_the_header_accept_chooses_the_format(server: Server, accept: str, form: str) -> None:
    answer = await server.ask("GET", "/metrics", headers={**server.bearer, "Accept": accept})
    assert answer.headers["Content-Type"].startswith(f"{form}; version=")
    assert answer.headers["Vary"] == "Accept"


async def test_a_scrape_needs_the_token_and_takes_no_parameters(server: Server) -> None:
    assert (await server.ask("GET", "/metrics", headers={})).status == HTTPStatus.UNAUTHORIZED
    wrong = await server.ask("GET", "/metrics?name[]=x")
    assert wrong.status == HTTPStatus.BAD_REQUEST
    assert wrong.json["code"] == "INVALID_REQUEST"
    assert (await server.ask("POST", "/metrics")).status == HTTPStatus.METHOD_NOT_ALLOWED
    head = await server.ask("HEAD", "/metrics")
    assert (head.status, head.body) == (HTTPStatus.OK, b"")


async def test_promtool_finds_nothing_to_improve(server: Server) -> None:
    await scrape(server)
    text = (await scrape(server)).text
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_family_is_documented() -> None:
    documentation = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)`", documentation, re.MULTILINE))
    assert documented == {family.name for family in families.ALL}


def test_no_family_carries_an_id() -> None:
    assert len({family.name for family in families.ALL}) == len(families.ALL)
    for family in families.ALL:
        assert family.name.startswith(("outlast_", "process_"))
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert not re.search(r'["\n\\]', family.meaning)
