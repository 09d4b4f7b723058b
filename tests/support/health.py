"""What a daemon says of its health, and that a refusal is one to come back from."""

from typing import Any

from tests.support.daemon import Daemon


async def health(daemon: Daemon) -> str:
    """Return what is wrong, "" if nothing is."""
    async with daemon.session.get(f"{daemon.url}/api/v1/health") as response:
        answer = await response.json()
        assert (response.status == 200) == answer["healthy"]
        if response.status != 200:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        return answer.get("error", "")


async def is_healthy(daemon: Daemon) -> bool:
    return not await health(daemon)


async def unavailable(daemon: Daemon, method: str, path: str, body: Any = None) -> str:
    """Make a call that must be answered with 503 and Retry-After; return its sentence."""
    async with daemon.session.request(method, f"{daemon.url}/api/v1{path}", json=body) as response:
        answer = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (503, "1"), answer
        assert answer["code"] == "UNAVAILABLE"
        return answer["error"]
