"""The daemon's log: its levels, its JSON form, and a line for each request where that is wanted."""

import json
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import eventually


async def start(daemon: Daemon, folder: Path, settings: str) -> None:
    (folder / "settings.toml").write_text(settings)
    await daemon.start("--config", str(folder / "settings.toml"))


def records(daemon: Daemon) -> list[dict[str, Any]]:
    """Return the records of a log in JSON. Every line must be one."""
    return [json.loads(line) for line in daemon.log.splitlines()]


async def test_a_log_in_json_is_json_from_its_first_line_to_its_last(crashable_daemon: Daemon, tmp_path: Path) -> None:
    daemon = crashable_daemon
    await start(daemon, tmp_path, 'log_format = "json"\n')
    await daemon.call("GET", "/info", 200)
    await daemon.stop()
    found = records(daemon)
    assert any(record["message"].startswith("the token is in ") for record in found)
    assert found[-1]["message"].startswith("the daemon has stopped")
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in found)


async def test_a_level_leaves_out_what_is_less_severe(crashable_daemon: Daemon, tmp_path: Path) -> None:
    daemon = crashable_daemon
    daemon.environment |= {"OUTLAST_LOG_FORMAT": "json", "OUTLAST_LOG_LEVEL": "error"}
    await start(daemon, tmp_path, "access_log = true\n")
    await daemon.call("GET", "/info", 200)
    await daemon.stop()
    assert daemon.log == ""


async def test_a_wrong_level_in_the_environment_is_reported(crashable_daemon: Daemon) -> None:
    daemon = crashable_daemon
    daemon.environment["OUTLAST_LOG_LEVEL"] = "verbose"
    await daemon.launch()
    assert await daemon.announcement() == ""
    assert 'OUTLAST_LOG_LEVEL must be "debug", "info", "warning" or "error", not \'verbose\'' in daemon.log
    await daemon.stop(0)


async def test_each_request_has_a_line(crashable_daemon: Daemon, tmp_path: Path) -> None:
    daemon = crashable_daemon
    await start(daemon, tmp_path, 'access_log = true\nlog_format = "json"\n')
    await daemon.call("GET", "/processes?tag=secret:1", 200)
    await daemon.call("GET", "/processes/none", 404)
    process = await daemon.sh("sleep 1000")
    async with daemon.client.stream(f"/processes/{process['id']}/output/follow"):
        pass

    def lines() -> list[dict[str, Any]] | None:
        found = [record for record in records(daemon) if record["logger"] == "outlast.access"]
        return found if len(found) == 4 else None

    found = await eventually(lines)
    assert [(each["method"], each["path"], each["status"], each["broken_off"]) for each in found] == [
        ("GET", "/api/v1/processes", 200, False),
        ("GET", "/api/v1/processes/none", 404, False),
        ("POST", "/api/v1/processes", 201, False),
        ("GET", f"/api/v1/processes/{process['id']}/output/follow", 200, True),
    ]
    assert all(each["client"] == "127.0.0.1" and each["duration_ms"] >= 0 for each in found)
    assert "secret" not in daemon.log
    assert daemon.token not in daemon.log


async def test_requests_are_not_logged_by_default(daemon: Daemon) -> None:
    await daemon.call("GET", "/processes/none", 404)
    assert "/processes/none" not in daemon.log


async def test_a_line_of_text_tells_of_a_request(crashable_daemon: Daemon, tmp_path: Path) -> None:
    daemon = crashable_daemon
    await start(daemon, tmp_path, "access_log = true\n")
    await daemon.call("GET", "/info", 200)
    await eventually(lambda: "INFO outlast.access: GET /api/v1/info 200 in " in daemon.log)
