"""One project: a task that starts, replaces and ends its processes until all is as declared."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.manager import ProcessManager
from outlast.core.projects.entries import Entry, ProjectRecord
from outlast.core.projects.files import ProjectFiles
from outlast.core.projects.statuses import Outcome, dependents, is_over, outcomes
from outlast.core.views import ProcessView
from outlast.model.errors import EnvKeyLost, InvalidRequest, NameInUse, NotFound, OutlastError, SpawnFailed
from outlast.model.project import PROJECT_TAG, DeclaredStatus

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_LONGEST_PAUSE_S = 0.5
_LOOK_S = 5.0
_HOPELESS = (SpawnFailed, NameInUse, InvalidRequest, EnvKeyLost)
"""Errors of a start that another try would meet again."""


class Project:
    """A project of this daemon.

    Attributes:
        record: what is kept of it. A call gives `keep` another one, and then calls `nudge`.
        lock: held while it is changed by a call, or a start is noted.
        is_gone: whether it has ended, and is kept no more.
    """

    def __init__(
        self, record: ProjectRecord, manager: ProcessManager, files: ProjectFiles, env_encryption: EnvEncryption
    ) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.is_gone = False
        self._manager = manager
        self._feed = manager.events
        self._files = files
        self._env_encryption = env_encryption
        self._keeping = asyncio.Lock()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._nudges = 0
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Work from now on, if that has not begun."""
        self._task = self._task or asyncio.create_task(self._work(), name=f"project {self.record.name}")

    async def close(self) -> None:
        """Leave the rest to the next daemon."""
        tasks = [*self._busy.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self) -> None:
        """Look again: something was changed."""
        self._nudges += 1
        self._feed.wake()

    async def keep(self, record: ProjectRecord | None = None) -> None:
        """Store the record, or another one in its place. Nothing is done by that before it is stored.

        Raises:
            OSError: it is not stored.
        """
        async with self._keeping:
            record = record or self.record
            await asyncio.to_thread(self._files.save, record)
            self.record = record

    async def look(self) -> tuple[dict[str, Outcome], dict[str, ProcessView]]:
        """Return the outcomes of the declared processes by their short names, and the processes by their ids."""
        record = self.record
        entries = {name: replace(entry) for name, entry in record.entries.items()}  # as they are before the first look
        ids = {each for entry in entries.values() for each in (entry.process_id, entry.earlier)}
        views = {}
        for process_id in ids | {*record.orphans.values(), *record.leaving.values()}:
            if process_id is not None:
                with contextlib.suppress(NotFound):
                    views[process_id] = await self._manager.get(process_id)
        return outcomes(entries, views), views

    async def wait(self, until: Callable[[dict[str, Outcome]], bool], timeout_s: float) -> bool:
        """Wait until the outcomes are as wanted, or the project is gone. Return False after `timeout_s`."""

        async def look() -> bool:
            found, _ = await self.look()
            return self.is_gone or (until(found) and not self._busy)

        return await self._wait(look, timeout_s)

    async def wait_ended(self, names: Collection[str], timeout_s: float) -> bool:
        """Wait until the processes of some entries have ended. Return False after `timeout_s`."""

        async def look() -> bool:
            _, views = await self.look()
            entries = [self.record.entries[name] for name in names if name in self.record.entries]
            return not any(self._runs(entry, views) for entry in entries)

        return await self._wait(look, timeout_s)

    async def _wait(self, look: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    seen, began = self._seen(), time.monotonic()
                    if await look():
                        return True
                    if self._feed.is_interrupted:
                        return False
                    looked_at = time.monotonic()
                    await self._change(seen)
                    await asyncio.sleep(min(_LONGEST_PAUSE_S, looked_at - began))
        return False

    # ---- the task

    def _seen(self) -> tuple[int, int]:
        return self._feed.commits, self._nudges

    async def _change(self, seen: tuple[int, int], *, nudges_only: bool = False) -> None:
        """Wait for something that has not been seen, or some seconds."""
        feed = self._feed
        if nudges_only:
            await feed.wait(lambda: self._nudges != seen[1])
        else:
            await feed.wait(lambda: self._seen() != seen or feed.is_interrupted, _LOOK_S)

    async def _work(self) -> None:
        is_settled, is_known = False, False
        while not self.is_gone:
            seen, began = self._seen(), time.monotonic()
            try:
                if not is_known:
                    async with self.lock:
                        await self._find_started()
                    is_known = True
                is_settled = await self._step()
            except (OutlastError, OSError) as exc:
                log.warning("project %s: %s", self.record.name, exc)
                await asyncio.sleep(_RETRY_S)
                continue
            except Exception:  # a failed step must not end the project's task
                log.exception("project %s: a step has failed, and is tried again", self.record.name)
                await asyncio.sleep(_RETRY_S)
                continue
            # A project that has nothing to do wakes for calls only.
            looked_at = time.monotonic()
            await self._change(seen, nudges_only=is_settled)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, looked_at - began))  # half of the time is for others

    async def _find_started(self) -> None:
        """Find processes that an earlier daemon has started, and died before it kept that."""
        for entry in self.record.entries.values():
            if entry.process_id is None:
                with contextlib.suppress(NotFound):
                    spec = (await self._manager.get(str(entry.spec.name))).process.spec
                    if spec.idempotency_key == entry.key:
                        entry.process_id, entry.earlier = spec.id, None

    async def _step(self) -> bool:
        """Begin what can be done now. Return whether nothing is left to do."""
        record = self.record
        found, views = await self.look()
        if self.record is not record:  # a call has replaced what was looked at
            return False
        for name, process_id in tuple(record.leaving.items()):
            if process_id not in views or is_over(views[process_id]):
                del record.leaving[name]
                await self.keep()
            else:
                self._begin(f"leaving {name}", self._end(process_id))
        if record.ending:
            return await self._step_down(views)
        is_busy = bool(record.leaving)
        for name, entry in record.entries.items():
            is_busy |= self._step_entry(name, entry, found[name], views)
        return not is_busy and not self._busy

    def _step_entry(self, name: str, entry: Entry, outcome: Outcome, views: Mapping[str, ProcessView]) -> bool:
        """Start or end one declared process, if it is time. Return whether there may be something to do later."""
        if not entry.wanted or entry.disabled:
            if not self._runs(entry, views):
                return False
            if not any(self._is_ending(other, views) for other in dependents(name, self.record.entries)):
                self._begin(name, self._end_entry(entry))
            return True
        if outcome.is_due and (entry.process_id is None or entry.again):
            self._begin(name, self._start(name, entry))
        return outcome.status is DeclaredStatus.WAITING

    def _is_ending(self, name: str, views: Mapping[str, ProcessView]) -> bool:
        entry = self.record.entries[name]
        return (not entry.wanted or self.record.ending) and self._runs(entry, views)

    def _runs(self, entry: Entry, views: Mapping[str, ProcessView]) -> bool:
        ids = [each for each in (entry.process_id, entry.earlier) if each is not None]
        return any(each in views and not is_over(views[each]) for each in ids)

    async def _step_down(self, views: Mapping[str, ProcessView]) -> bool:
        """End those for which nothing waits that runs. Return whether all have ended."""
        entries = self.record.entries
        running = [name for name, entry in entries.items() if self._runs(entry, views)]
        for name in running:
            if not any(other in running for other in dependents(name, entries)):
                self._begin(name, self._end_entry(entries[name]))
        if running or self._busy or self.record.leaving:
            return False
        async with self.lock:
            if not self.record.ending:  # it was declared again meanwhile
                return False
            await asyncio.to_thread(self._files.remove, self.record.name)
            self.is_gone = True
        self.nudge()
        return True

    # ---- what is done to one process

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._busy:
            work.close()
            return

        async def act() -> None:
            try:
                await work
            except (OutlastError, OSError) as exc:
                log.warning("project %s: %s: %s", self.record.name, name, exc)
                await asyncio.sleep(_RETRY_S)
            finally:
                del self._busy[name]
                self.nudge()

        self._busy[name] = asyncio.create_task(act(), name=f"project {self.record.name}: {name}")

    async def _start(self, name: str, entry: Entry) -> None:
        try:
            if entry.again and entry.process_id is not None:
                process_id = await self._start_again(entry.process_id)
            else:
                process_id = await self._start_new(entry)
        except _HOPELESS as exc:
            log.warning("project %s: %s cannot be started: %s", self.record.name, name, exc)
            entry.error = str(exc)
            return
        async with self.lock:  # else a call that is storing another record would lose what is noted in this one
            current = self.record.entries.get(name)
            if current is not None and current.key == entry.key:
                current.process_id, current.earlier, current.again = process_id, None, False
                await self.keep()
                return
        await self._end(process_id)  # it was declared otherwise meanwhile

    async def _start_new(self, entry: Entry) -> str:
        if entry.earlier is not None:
            await self._end(entry.earlier)
        await self._free_name(entry)
        env = await asyncio.to_thread(self._env_encryption.decrypt, entry.encrypted_env)
        started = await self._manager.start(entry.request(env))
        return started.view.process.spec.id

    async def _start_again(self, process_id: str) -> str:
        """Start the next run of a process that has ended. An earlier daemon may have died behind that."""
        if is_over(await self._manager.get(process_id)):
            await self._manager.restart(process_id)
        return process_id

    async def _free_name(self, entry: Entry) -> None:
        """End a process of this project that has the name, as one may that is declared no more."""
        with contextlib.suppress(NotFound):
            holder = await self._manager.get(str(entry.spec.name))
            spec = holder.process.spec
            is_ours = spec.tags.get(PROJECT_TAG) == self.record.name and spec.idempotency_key != entry.key
            if is_ours and not is_over(holder):
                await self._end(spec.id)

    async def _end_entry(self, entry: Entry) -> None:
        for process_id in filter(None, (entry.process_id, entry.earlier)):
            await self._end(process_id)

    async def _end(self, process_id: str) -> None:
        with contextlib.suppress(NotFound):
            await self._manager.kill(process_id)
