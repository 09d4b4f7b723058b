"""The health that a daemon reports, and refusals that ask the client to come back."""

from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import eventually


async def health(daemon: Daemon) -> str:
    """Return what is wrong, "" if nothing is."""
    answer = await daemon.client.request("GET", "/health")
    assert (answer.status == 200) == answer.json["healthy"]
    if answer.status != 200:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    error: str = answer.json.get("error", "")
    return error


async def warnings(daemon: Daemon) -> list[str]:
    """Return what a healthy daemon warns of."""
    answer = await daemon.client.request("GET", "/health")
    assert answer.status == 200
    found: list[str] = answer.json.get("warnings", [])
    return found


async def is_healthy(daemon: Daemon) -> bool:
    """Tell whether the daemon says that nothing is wrong."""
    return not await health(daemon)


async def wait_until_healthy(daemon: Daemon) -> None:
    """Wait until the daemon says that nothing is wrong."""
    await eventually(lambda: is_healthy(daemon))


async def unavailable(daemon: Daemon, method: str, path: str, body: Any = None) -> str:
    """Make a call that must be answered with 503 and Retry-After, and return the error's sentence."""
    answer = await daemon.client.request(method, path, json=body)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), answer.json
    assert answer.json["code"] == "UNAVAILABLE"
    error: str = answer.json["error"]
    return error
