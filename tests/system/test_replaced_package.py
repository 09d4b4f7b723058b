"""A package that is moved or replaced under a running daemon: what is loaded goes on working."""

import shutil
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import outlast
from tests.support.daemon import PYTHON, Daemon, shim_pid

ROOT = Path(outlast.__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages that can be hidden: Outlast, and links to what it needs."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth" and entry.name != "outlast":
            (site / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "app" / "outlast", site / "outlast", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "migrations", site / "outlast" / "_migrations", dirs_exist_ok=True)
    return site


@pytest.fixture
async def daemon(state_dir: Path, site: Path) -> AsyncIterator[Daemon]:
    """A daemon whose package is gone since it said that it listens."""
    daemon = Daemon(state_dir, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")
    daemon.command = [PYTHON, "-S", "-P", "-m", "outlast"]
    try:
        await daemon.start()
        await daemon.drained(await daemon.sh("echo the shim and its helper run"))
        site.rename(site.with_name("hidden"))
        yield daemon
    finally:
        await daemon.end_everything()


async def test_every_group_of_calls_works_without_the_package(daemon: Daemon) -> None:
    call = daemon.call
    assert await call("GET", "/health", 200) == {"healthy": True}
    assert (await call("GET", "/info", 200))["running_processes"] == 0
    process = await daemon.sh(
        "echo out; echo err >&2; cat; exec sleep 1000",
        stdin_mode="pipe",
        tags={"t": "v"},
        limits={"open_files": 64},
        nice=1,
    )
    path = f"/processes/{process['id']}"
    await call("POST", f"{path}/stdin", 204, data=b"in\n")
    await call("POST", f"{path}/stdin/close", 204)
    assert "in" in str(await call("GET", f"{path}/wait?until=output&pattern=^in$&regex=true&timeout=20", 200))
    assert (await call("GET", "/processes?status=running", 200))["processes"]
    assert (await call("GET", f"{path}/stats", 200))["pid"] == process["pid"]
    found = await call("GET", "/search?q=^IN$&regex=true&ignore_case=true", 200)
    assert [match["line"] for match in found["matches"]] == ["in"]
    assert (await call("POST", "/sql", 200, {"query": "SELECT count(*) FROM output_lines"}))["rows"]
    await call("POST", f"{path}/signal", 200, {"signal": "SIGTERM"})
    await daemon.ended(process)
    assert sorted(await daemon.lines(process)) == ["err", "in", "out"]
    assert len([event async for event in daemon.follow(process)]) == 4
    events = await daemon.client.request("GET", "/events", headers={"Accept": "application/x-ndjson"})
    assert b"started" in events.body
    url = f"{daemon.url}/api/v1/processes/run"
    async with daemon.session.post(url, json={"command": "echo", "args": ["ran"]}) as response:
        assert b"ran" in await response.read()
    await call("DELETE", f"{path}?purge=true", 204)


async def test_managed_processes_work_without_the_package(daemon: Daemon) -> None:
    process = await daemon.sh(
        "echo $SECRET; sleep 1000", name="kept", env={"SECRET": "s"}, restart={"policy": "always"}
    )
    await daemon.wait_for_lines(process, 1)
    await daemon.call("POST", "/processes/kept/restart", 200)
    await daemon.wait_for_lines(process, 2)
    assert await daemon.lines(process) == ["s", "s"]
    assert len((await daemon.call("GET", "/processes/kept/runs", 200))["runs"]) == 2
    await daemon.call("DELETE", "/processes/kept", 204)


async def test_errors_and_documents_work_without_the_package(daemon: Daemon) -> None:
    await daemon.call("GET", "/processes/nobody", 404)
    await daemon.call("POST", "/processes", 400, {"nonsense": 1})
    await daemon.call("POST", "/processes", 422, {"command": "/no/such/program"})
    document = await daemon.call("GET", "/openapi.json", 200)
    assert document["info"]["title"] == "Outlast"
    kinds = {"": "text/html", "docs.js": "text/javascript", "swagger-ui-bundle.js": "text/javascript"}
    kinds |= {"swagger-ui.css": "text/css", "favicon-32x32.png": "image/png"}
    for name, kind in kinds.items():
        async with daemon.session.get(f"{daemon.url}/docs{'/' if name else ''}{name}") as response:
            assert (response.status, response.content_type) == (200, kind)
            assert await response.read()


async def test_the_daemon_ends_in_order_without_the_package(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    assert await daemon.stop() == 0
    assert "1 process keeps running" in daemon.log
    assert "Traceback" not in daemon.log
    assert shim_pid(daemon.state_dir) is not None
    daemon.environment.clear()
    daemon.command = [PYTHON, "-m", "outlast"]
    await daemon.start()
    assert (await daemon.get(process))["status"] == "running"
