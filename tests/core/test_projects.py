"""Projects on a manager whose starts take as long as a test wants."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from outlast.core.commands.start_request import StartRequest
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.manager import ProcessManager
from outlast.core.projects import project
from outlast.core.projects.entries import Declared
from outlast.core.projects.files import ProjectFiles
from outlast.core.projects.projects import Application, Projects
from outlast.model.errors import NotFound
from tests.support.waiting import eventually


class Feed:
    commits = 0
    is_interrupted = False

    def wake(self) -> None:
        pass

    async def wait(self, condition: Any, _: float = 0) -> None:
        await eventually(condition)


class Manager:
    """A manager of one process, which starts once `may_start` is set. The next `slow_looks` wait for `may_look`."""

    why_held = None

    def __init__(self, state_dir: Path) -> None:
        self.events = Feed()
        self.may_start = asyncio.Event()
        self.is_asked = False
        self.started: list[str | None] = []
        self.slow_looks = 0
        self.may_look = asyncio.Event()
        self.running: set[str] = set()
        self.view: Any = None
        self.env_encryption = EnvEncryption(state_dir)

    async def get(self, _: str) -> Any:
        if self.slow_looks:
            self.slow_looks -= 1
            await self.may_look.wait()
        if self.view is None:
            raise NotFound("there is none")
        return self.view

    async def start(self, request: StartRequest) -> Any:
        self.is_asked = True
        self.started.append(request.name)
        await self.may_start.wait()
        self.running.add("P")
        spec = SimpleNamespace(id="P", tags=request.tags, idempotency_key=request.idempotency_key)
        self.view = SimpleNamespace(process=SimpleNamespace(spec=spec, run=SimpleNamespace(ending=None), managed=None))
        return SimpleNamespace(view=self.view)

    async def kill(self, process_id: str) -> None:
        self.running.discard(process_id)
        self.view = None


class SlowFiles(ProjectFiles):
    """Files that a slow disk keeps, while `is_slow`."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.is_slow = False
        self.is_asked = False
        self.may_save = threading.Event()

    def save(self, record: Any) -> None:
        if self.is_slow:
            self.is_asked = True
            self.may_save.wait()
        super().save(record)


async def test_a_start_that_is_over_while_its_end_is_stored_is_ended(tmp_path: Path) -> None:
    manager, files = Manager(tmp_path), SlowFiles(tmp_path)
    projects = Projects(cast("ProcessManager", manager), tmp_path)
    projects._files = files
    await projects.open()
    try:
        declared = Declared(start=StartRequest(command="true"))
        await projects.apply("shop", Application(folder="", processes={"web": declared}))
        await eventually(lambda: manager.is_asked)
        files.is_slow = True
        ending = asyncio.create_task(projects.end("shop", frozenset({"web"}), 10))
        await eventually(lambda: files.is_asked)
        manager.may_start.set()
        await eventually(lambda: manager.running)
        for _ in range(20):  # the start is noted now, or waits until it can be
            await asyncio.sleep(0)
        files.may_save.set()
        await ending
        await eventually(lambda: not manager.running)
    finally:
        files.may_save.set()
        await projects.close()


async def test_a_set_that_is_declared_during_a_look_at_the_last_one_is_started(tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    manager.may_start.set()
    projects = Projects(cast("ProcessManager", manager), tmp_path)
    await projects.open()
    try:
        declared = Declared(start=StartRequest(command="true"))
        await projects.apply("shop", Application(folder="", processes={"web": declared}))
        await eventually(lambda: manager.started == ["shop.web"])
        manager.slow_looks = 1
        projects._projects["shop"].nudge()
        await eventually(lambda: not manager.slow_looks)
        await projects.apply("shop", Application(folder="", processes={"web": declared, "other": declared}))
        manager.may_look.set()
        await eventually(lambda: "shop.other" in manager.started)
    finally:
        await projects.close()


async def test_a_step_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "_RETRY_S", 0.0)
    manager = Manager(tmp_path)
    manager.may_start.set()
    projects = Projects(cast("ProcessManager", manager), tmp_path)
    await projects.open()
    failures = [RuntimeError("a defect")]

    async def get(name: str) -> Any:
        if failures:
            raise failures.pop()
        return await Manager.get(manager, name)

    monkeypatch.setattr(manager, "get", get)
    try:
        declared = Declared(start=StartRequest(command="true"))
        await projects.apply("shop", Application(folder="", processes={"web": declared}))
        await eventually(lambda: manager.started)
    finally:
        await projects.close()
