"""The store's files are moved away, or deleted, under a daemon with running processes: nothing is lost unsaid."""

from tests.support.daemon import Daemon
from tests.support.health import health, unavailable, wait_until_healthy
from tests.support.waiting import eventually


async def test_a_store_that_is_moved_away_and_back_has_everything(daemon: Daemon) -> None:
    process = await daemon.sh("echo before; read line; echo $line", stdin_mode="pipe")
    await daemon.wait_for_lines(process, 1)
    database = daemon.state_dir / "outlast.db"
    aside = database.rename(daemon.state_dir / "aside")
    assert "is gone" in await unavailable(daemon, "POST", "/processes", {"command": "true"})
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"meanwhile\n")
    assert "is gone: move it back" in await health(daemon)
    assert await daemon.lines(process) == ["before"]
    aside.rename(database)
    await wait_until_healthy(daemon)
    await daemon.ended(process)
    assert await daemon.lines(process) == ["before", "meanwhile"]


async def test_a_daemon_at_rest_notices_that_its_store_is_gone(daemon: Daemon) -> None:
    database = daemon.state_dir / "outlast.db"
    aside = database.rename(daemon.state_dir / "aside")
    assert "is gone" in await eventually(lambda: health(daemon))
    aside.rename(database)
    await wait_until_healthy(daemon)


async def test_a_deleted_log_costs_nothing(daemon: Daemon) -> None:
    process = await daemon.sh("echo before; read line; echo $line", stdin_mode="pipe")
    await daemon.wait_for_lines(process, 1)
    (daemon.state_dir / "outlast.db-wal").unlink()
    path = f"/processes/{process['id']}"

    async def is_written() -> bool:
        raw = {"Content-Type": "application/octet-stream"}
        answer = await daemon.client.request("POST", f"{path}/stdin", data=b"after\n", headers=raw)
        assert answer.status in {204, 503}  # 503: the files are being opened again
        return answer.status == 204

    async def is_stored() -> bool:
        answer = await daemon.client.request("GET", f"{path}/output")
        assert answer.status in {200, 503}
        return answer.status == 200 and bool(answer.json["lines"] == ["before", "after"])

    await eventually(is_written)
    await eventually(is_stored)
    await daemon.ended(process)
    await daemon.kill()
    await daemon.start()
    assert await daemon.lines(process) == ["before", "after"]


async def test_a_truncated_store_is_left_alone_by_a_daemon_that_ends(daemon: Daemon) -> None:
    process = await daemon.sh("sleep 1000")
    database = daemon.state_dir / "outlast.db"
    database.write_bytes(b"")
    assert "truncated" in await unavailable(daemon, "POST", "/processes", {"command": "true"})
    assert "truncated" in await health(daemon)
    answer = await daemon.call("DELETE", f"/processes/{process['id']}", 500)
    assert answer["code"] == "INTERRUPTED"
    assert await daemon.stop() == 0
    assert database.read_bytes() == b""
