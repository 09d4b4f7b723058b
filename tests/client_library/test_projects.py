"""Projects, in both forms of the client."""

import pytest

from outlast import AsyncOutlast
from outlast.client import NotFound
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S

SLEEPER = {"start": {"command": "sleep", "args": ["1000"], "restart": {"policy": "never"}}}


async def test_a_project_is_declared_looked_at_and_ended(ol: AsyncOutlast, daemon: Daemon) -> None:
    processes = {"db": SLEEPER, "web": {**SLEEPER, "depends_on": {"db": "started"}}}
    assert (await ol.apply_project("shop", processes, dry_run=True))["created"] == ["db", "web"]
    assert await ol.projects() == []
    assert (await ol.apply_project("shop", processes, folder="/srv"))["created"] == ["db", "web"]
    shown = await ol.project("shop", wait=DEADLINE_S)
    assert shown["settled"]
    assert shown["folder"] == "/srv"
    assert {name: told["status"] for name, told in shown["processes"].items()} == {"db": "running", "web": "running"}
    await daemon.kill()
    await daemon.start()
    assert (await ol.apply_project("shop", processes))["unchanged"] == ["db", "web"]
    assert await ol.projects() == ["shop"]
    await ol.end_project("shop", ["web"])
    assert (await ol.process("shop.web")).info.status == "signaled"
    await ol.end_project("shop")
    assert (await ol.process("shop.db")).info.status == "signaled"
    with pytest.raises(NotFound):
        await ol.project("shop")
    with pytest.raises(NotFound):
        await ol.end_project("shop")
