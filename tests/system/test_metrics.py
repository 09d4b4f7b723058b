"""Metrics of a real daemon: they agree with what was done, and go on over its restarts."""

import asyncio
import os
import signal
from pathlib import Path

from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, shim_pid
from tests.support.faulty import FaultyStore
from tests.support.metrics import OPENMETRICS, Scrape, scrape
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import DEADLINE_S, eventually

TOTALS = (
    "outlast_process_starts_total",
    "outlast_process_restarts_total",
    "outlast_process_ends_total",
    "outlast_output_bytes_total",
    "outlast_output_lines_total",
    "outlast_output_gaps_total",
)


def totals(found: Scrape) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        key: value for key, value in found.values.items() if key[0] in TOTALS and ("result", "refused") not in key[1]
    }


async def do_something(daemon: Daemon) -> None:
    """Let three processes end in different ways, and one start fail."""
    for script in ("echo one; echo two; echo three >&2", "exit 3", "kill -USR1 $$"):
        await daemon.ended(await daemon.sh(script))
    await daemon.call("POST", "/processes", 422, {"command": "/no/such/program"})


async def test_totals_agree_with_what_was_done(daemon: Daemon) -> None:
    await do_something(daemon)
    found = await scrape(daemon)
    assert found("outlast_process_starts_total", result="recorded") == 4
    assert found("outlast_process_starts_total", result="failed") == 1
    assert found("outlast_process_ends_total", reason="exited") == 2
    assert found("outlast_process_ends_total", reason="signaled") == 1
    assert found("outlast_output_lines_total", stream="stdout") == 2
    assert found("outlast_output_bytes_total", stream="stderr") == len("three\n")
    assert found("outlast_output_gaps_total", reason="lost") == 0
    assert found("outlast_capture_delay_seconds_count") in {2, 3}  # two lines may be read one by one
    assert found("outlast_commits_total") == found("outlast_commit_duration_seconds_count")
    assert found("outlast_processes", status="ended") == 3
    assert found("outlast_http_requests_total", method="POST", route="/api/v1/processes", code="422") == 1


async def test_totals_go_on_over_a_kill_and_a_purge(daemon: Daemon) -> None:
    await do_something(daemon)
    loud = await daemon.sh("echo last")
    await daemon.ended(loud)
    before = totals(await scrape(daemon))
    await daemon.kill()
    await daemon.start()
    assert totals(await scrape(daemon)) == before
    await daemon.call("DELETE", f"/processes/{loud['id']}?purge=true", 204)
    assert totals(await scrape(daemon)) == before
    await daemon.ended(await daemon.sh("echo more"))
    assert (await scrape(daemon))("outlast_output_lines_total", stream="stdout") == 4


async def test_output_of_a_time_without_a_daemon_is_counted_once_and_is_late(daemon: Daemon, tmp_path: Path) -> None:
    await daemon.sh(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo away; touch {tmp_path}/done; sleep 100")
    await daemon.kill()
    (tmp_path / "go").touch()
    await eventually(lambda: (tmp_path / "done").exists() or None)
    await asyncio.sleep(0.3)  # so that it is late by more than one bound of the histogram
    await daemon.start()

    async def counted() -> Scrape | None:
        found = await scrape(daemon)
        return found if found("outlast_output_lines_total", stream="stdout") else None

    found = await eventually(counted)
    assert found("outlast_output_lines_total", stream="stdout") == 1
    assert found("outlast_capture_delay_seconds_count") == 1
    assert found("outlast_capture_delay_seconds_bucket", le="0.25") == 0


async def test_a_named_process_has_series_until_it_is_stopped(daemon: Daemon) -> None:
    web = await daemon.sh("echo ready; sleep 1000", name='w"eb', tags={"team": "a"})
    await daemon.sh("sleep 1000", tags={"team": "a"})
    await daemon.wait_for_lines(web, 1)

    async def sampled() -> Scrape | None:
        found = await scrape(daemon, OPENMETRICS)
        return found if found("outlast_process_threads", name='w"eb') else None

    found = await eventually(sampled)
    series = found.of('w"eb')
    assert series["outlast_process_up"] == 1
    assert series["outlast_process_runs_total"] == 1
    assert series["outlast_process_start_time_seconds"] == web["started_at"] / 1000
    assert series["outlast_process_output_bytes_total/stdout"] == len("ready\n")
    assert series["outlast_process_last_output_timestamp_seconds"] >= web["started_at"] / 1000
    assert series["outlast_process_resident_memory_bytes"] > 0
    assert "outlast_process_healthy" not in series
    assert "outlast_process_last_exit_code" not in series
    assert {dict(labels)["name"] for _, labels in found.values if "name" in dict(labels)} == {'w"eb'}
    assert web["id"] not in found.text
    await daemon.call("DELETE", f"/processes/{web['id']}", 204)
    assert (await scrape(daemon)).of('w"eb') == {}


async def test_a_process_that_backs_off_is_down_and_tells_its_exit(daemon: Daemon) -> None:
    restart = {"policy": "always", "initial_backoff_ms": 60_000, "max_backoff_ms": 60_000}
    await daemon.sh("echo x; exit 7", name="flaky", restart=restart)

    async def is_down() -> Scrape | None:
        found = await scrape(daemon)
        return found if found("outlast_process_last_exit_code", name="flaky") is not None else None

    found = await eventually(is_down)
    assert found("outlast_process_last_exit_code", name="flaky") == 7
    assert found("outlast_process_up", name="flaky") == 0
    assert found("outlast_processes", status="backing_off") == 1
    await daemon.call("POST", "/processes/flaky/restart", 200)
    again = await eventually(is_down)
    assert again("outlast_process_runs_total", name="flaky") == 2
    assert again("outlast_process_restarts_total") == 1
    await daemon.kill()
    await daemon.start()
    assert (await scrape(daemon))("outlast_process_runs_total", name="flaky") == 2


async def test_tags_of_the_setting_become_labels(crashable_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('metrics_tags = ["team"]\n')
    daemon = crashable_daemon
    await daemon.start("--config", str(tmp_path / "settings.toml"))
    await daemon.sh("sleep 1000", name="web", tags={"team": "a", "other": "b"})
    assert (await scrape(daemon))("outlast_process_up", name="web", tag_team="a") == 1


async def test_followers_are_counted_while_they_follow(daemon: Daemon) -> None:
    process = await daemon.sh("sleep 1000")

    async def followers(of: str, count: int) -> None:
        await eventually(lambda: _has(daemon, count, "outlast_followers", of=of), f"{count} followers of {of}")

    async with daemon.client.stream(f"/processes/{process['id']}/output/follow"), daemon.client.stream("/events"):
        await followers("output", 1)
        await followers("events", 1)
    await followers("output", 0)
    await followers("events", 0)


async def _has(daemon: Daemon, value: float, name: str, **labels: str) -> bool:
    return (await scrape(daemon))(name, **labels) == value


async def test_a_store_that_fails_is_down_and_the_rest_is_told(tmp_path: Path, state_dir: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        process = await daemon.sh("while :; do echo tick; sleep 0.01; done")
        await daemon.wait_for_lines(process, 1)
        store.inject(Mode.ERR, reads=True)

        async def is_down() -> Scrape | None:
            found = await scrape(daemon)
            told = found("outlast_store_up") == 0 and found("outlast_unstored_bytes")
            return found if told and found("outlast_commit_errors_total") else None

        found = await eventually(is_down)
        assert found("outlast_output_lines_total", stream="stdout") is None
        assert found("outlast_process_starts_total", result="recorded") is None
        assert found("outlast_processes", status="running") == 1
        assert found("outlast_shim_buffered_bytes", where="memory") > 0  # type: ignore[operator]
        assert found("outlast_filesystem_free_bytes") > 0  # type: ignore[operator]
        store.mend()
        await eventually(lambda: _has(daemon, 1, "outlast_store_up"))
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_store_that_stalls_does_not_stall_a_scrape(tmp_path: Path, state_dir: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        store.inject(Mode.STALL, reads=True)
        async with asyncio.timeout(DEADLINE_S):
            found = await scrape(daemon)
        assert found("outlast_store_up") == 0
        assert found("outlast_shim_up") == 1
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_process_that_waits_for_the_store_is_blocked(tmp_path: Path, state_dir: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    (tmp_path / "settings.toml").write_text("buffer_limit_bytes = 1000000\n")
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start("--config", str(tmp_path / "settings.toml"))
        process = await daemon.run("sh", "-c", "read go; head -c 5000000 /dev/zero; sleep 1000", stdin_mode="pipe")
        assert await _has(daemon, 0, "outlast_blocked_processes")
        store.inject(Mode.ERR)
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"go\n")
        await eventually(lambda: _has(daemon, 1, "outlast_blocked_processes"))
        store.mend()
        await eventually(lambda: _has(daemon, 0, "outlast_blocked_processes"))
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_stopped_shim_is_down(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    assert (await scrape(daemon))("outlast_shim_up") == 1
    os.kill(shim, signal.SIGSTOP)
    try:
        found = await scrape(daemon)
        assert found("outlast_shim_up") == 0
        assert found("outlast_blocked_processes") is None
    finally:
        os.kill(shim, signal.SIGCONT)
    await eventually(lambda: _has(daemon, 1, "outlast_shim_up"))


async def test_another_shim_is_counted(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: _has(daemon, 1, "outlast_shim_restarts_total"))
    await eventually(lambda: _has(daemon, 1, "outlast_shim_up"))


OLDER = """\
from outlast.shim import server
server.USAGE_FEATURE = "what an older shim does not have"
"""


async def test_a_shim_that_does_not_tell_what_it_holds_is_left_alone(state_dir: Path) -> None:
    daemon = patched_daemon(state_dir, OLDER)
    try:
        await daemon.start()
        found = await scrape(daemon)
        assert found("outlast_shim_up") == 1
        assert found("outlast_blocked_processes") is None
        await daemon.sh("true")
        assert "connection" not in daemon.log
    finally:
        await daemon.end_everything()
