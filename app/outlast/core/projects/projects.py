"""The projects of a state folder: what calls do to them."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from outlast.core.commands import users
from outlast.core.commands.start_request import make_spec
from outlast.core.manager import ProcessManager
from outlast.core.projects.entries import Declared, Entry, ProjectRecord
from outlast.core.projects.files import ProjectFiles
from outlast.core.projects.project import Project
from outlast.core.projects.statuses import Outcome, is_over, succeeded
from outlast.core.supervision.spec_record import spec_to_record
from outlast.core.views import ProcessView
from outlast.model.clock import now_ms
from outlast.model.errors import InvalidRequest, NotFound, Unavailable
from outlast.model.project import PROJECT_TAG, DeclaredStatus, Need, find_cycle
from outlast.model.ulid import new_ulid

_NEED_CHECK = {Need.HEALTHY, Need.LOG_READY}
_UNSETTLED = {DeclaredStatus.WAITING, DeclaredStatus.STARTING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A declared set, and how it is applied.

    Attributes:
        folder: folder that it was declared in, for people.
        processes: the declared processes, by their short names.
        only: those that are applied; None: all. The others are left as they are.
        forces: whether those that have not changed are replaced, too.
        removes: whether processes that are declared no more are ended.
        is_dry: whether it is only told what would be done.
    """

    folder: str
    processes: Mapping[str, Declared]
    only: frozenset[str] | None = None
    forces: bool = False
    removes: bool = False
    is_dry: bool = False


@dataclass(slots=True)
class Applied:
    """Effects of an application, in short names.

    Attributes:
        created: those that are declared for the first time.
        changed: those whose process is replaced.
        removed: those that are declared no more, and are ended.
        restarted: those that have not changed, and had ended without success: they are started again.
        unchanged: those that are not touched.
        orphans: those that are declared no more, and are left alone.
        waiting: of those that are to start, the ones that wait for others, and for what.
    """

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as it is now: each declared process with its outcome, and its process, if it has one."""

    record: ProjectRecord
    outcomes: Mapping[str, Outcome]
    views: Mapping[str, ProcessView]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to wait for."""
        return settled(self.outcomes)


def settled(found: Mapping[str, Outcome]) -> bool:
    """Return whether no declared process waits or is about to become healthy."""
    return not any(outcome.status in _UNSETTLED for outcome in found.values())


class Projects:
    """The projects of one daemon. To be used between `open` and `close`."""

    def __init__(self, manager: ProcessManager, state_dir: Path) -> None:
        self._manager = manager
        self._files = ProjectFiles(state_dir)
        self._env_encryption = manager.env_encryption  # two would make two keys, if both are used for the first time
        self._projects: dict[str, Project] = {}

    async def open(self) -> None:
        """Go on with what earlier daemons have begun, unless the store belongs to another state folder."""
        if self._manager.why_held is not None:
            return
        for record in await asyncio.to_thread(self._files.load):
            self._projects[record.name] = project = self._new(record)
            project.run()

    async def close(self) -> None:
        """Leave all projects to the next daemon."""
        await asyncio.gather(*(project.close() for project in self._projects.values()))

    def names(self) -> list[str]:
        """Return the names of all projects, sorted."""
        return sorted(name for name, project in self._projects.items() if not project.is_gone)

    async def view(self, name: str, wait_s: float) -> ProjectView:
        """Return a project, once nothing is left to wait for, or after `wait_s`.

        Raises:
            NotFound: there is no such project.
        """
        project = self._find(name)
        if wait_s > 0:
            await project.wait(settled, wait_s)
        return ProjectView(project.record, *await project.look())

    async def apply(self, name: str, application: Application) -> Applied:
        """Declare the processes of a project. Returns once that is kept; the rest is done without the caller.

        Raises:
            InvalidRequest: what is declared cannot come true; nothing was done.
            SpawnFailed: a user does not exist; likewise.
            Unavailable: it cannot be kept now; likewise.
        """
        _check(application.processes)
        entries = await asyncio.to_thread(self._make_entries, name, application.processes)
        while True:
            project = self._projects.get(name)
            if project is None or project.is_gone:
                project = self._new(ProjectRecord(name=name, folder=application.folder))
                if not application.is_dry:
                    self._projects[name] = project
            async with project.lock:
                if not project.is_gone:  # else its end was over just now
                    return await self._apply(project, entries, application)

    async def _apply(self, project: Project, entries: Mapping[str, Entry], application: Application) -> Applied:
        """Apply to a project whose lock is held."""
        _, views = await project.look()
        record, applied = _change(project.record, entries, application, views)
        if application.is_dry:
            return applied
        try:
            await project.keep(record)
        except OSError as exc:
            raise Unavailable(f"the project cannot be kept now, and nothing was done: {exc.strerror}") from None
        finally:
            project.run()
        found, _ = await project.look()
        applied.waiting = {
            short: outcome.reason
            for short, outcome in found.items()
            if outcome.status is DeclaredStatus.WAITING and not outcome.is_due
        }
        project.nudge()
        return applied

    async def end(self, name: str, only: frozenset[str], wait_s: float) -> bool:
        """End a project, or some of its processes, in reverse order. Return whether they have within `wait_s`.

        Raises:
            NotFound: there is no such project, or it declares no such process.
            Unavailable: that cannot be kept now; nothing was done.
        """
        project = self._find(name)
        async with project.lock:
            if project.is_gone:
                return True
            if unknown := only - project.record.entries.keys():
                raise NotFound(f"project {name} declares no process {min(unknown)!r}")
            if only:
                changed = {
                    short: replace(entry, wanted=entry.wanted and short not in only)
                    for short, entry in project.record.entries.items()
                }
                record = replace(project.record, entries=changed)
            else:
                record = replace(project.record, ending=True)
            try:
                await project.keep(record)
            except OSError as exc:
                raise Unavailable(f"the end of the project cannot be kept now: {exc.strerror}") from None
        project.nudge()
        if not only:
            return await project.wait(lambda _: False, wait_s)
        return await project.wait_ended(only, wait_s)

    def _find(self, name: str) -> Project:
        project = self._projects.get(name)
        if project is None or project.is_gone:
            raise NotFound(f"there is no project {name!r}: it has ended, or was never declared")
        return project

    def _new(self, record: ProjectRecord) -> Project:
        return Project(record, self._manager, self._files, self._env_encryption)

    def _make_entries(self, project: str, processes: Mapping[str, Declared]) -> dict[str, Entry]:
        """Return the entries of declared processes. Blocks."""
        return {short: self._make_entry(project, short, declared) for short, declared in processes.items()}

    def _make_entry(self, project: str, short: str, declared: Declared) -> Entry:
        start = declared.start
        request = replace(start, name=f"{project}.{short}", tags={**start.tags, PROJECT_TAG: project})
        spec = make_spec(request, users.resolve(request.user))
        told = {**spec_to_record(spec), "id": "", "env": dict(request.env)}
        return Entry(
            spec=spec,
            encrypted_env=self._env_encryption.encrypt(request.env) if request.env else None,
            digest=self._env_encryption.digest(json.dumps(told, sort_keys=True).encode()),
            needs=declared.needs,
            disabled=declared.disabled,
            key=f"{project}.{short}:{new_ulid(now_ms())}",
        )


def _check(processes: Mapping[str, Declared]) -> None:
    """Raise `InvalidRequest` if a process waits for what cannot come."""
    for short, declared in processes.items():
        for other, need in declared.needs.items():
            if other not in processes:
                raise InvalidRequest(f"processes.{short}.depends_on names {other!r}, which is not declared")
            options = processes[other].start.options
            if need in _NEED_CHECK and options.health_check is None and options.ready_log is None:
                raise InvalidRequest(
                    f"processes.{short}.depends_on: {other} has no health_check or ready_log, and cannot be {need}"
                )
    if cycle := find_cycle({short: declared.needs for short, declared in processes.items()}):
        raise InvalidRequest(f"processes depend on one another in a circle: {' -> '.join(cycle)}")


def _change(
    record: ProjectRecord, entries: Mapping[str, Entry], application: Application, views: Mapping[str, ProcessView]
) -> tuple[ProjectRecord, Applied]:
    """Return the record after an application, and what that does."""
    applied = Applied()
    orphans, leaving = dict(record.orphans), dict(record.leaving)
    changed: dict[str, Entry] = {}
    for short, entry in entries.items():
        old = record.entries.get(short)
        if application.only is not None and short not in application.only:
            changed[short] = replace(entry, wanted=False) if old is None else old
            continue
        changed[short] = _replaced(short, old, entry, views, applied, forces=application.forces)
        if old is None:
            changed[short].earlier = orphans.pop(short, None) or leaving.pop(short, None)
    for short, old in record.entries.items():
        if short not in entries:
            orphans.update((short, each) for each in (old.process_id, old.earlier) if each is not None)
    applied.orphans = sorted(short for short, each in orphans.items() if each in views and not is_over(views[each]))
    if application.removes:
        applied.removed, applied.orphans = applied.orphans, []
        orphans, leaving = {}, leaving | {short: orphans[short] for short in applied.removed}
    name = record.name
    return (
        ProjectRecord(name=name, folder=application.folder, entries=changed, orphans=orphans, leaving=leaving),
        applied,
    )


def _replaced(
    short: str, old: Entry | None, entry: Entry, views: Mapping[str, ProcessView], applied: Applied, *, forces: bool
) -> Entry:
    """Return what takes the place of an entry."""
    if old is None:
        applied.created.append(short)
        return entry
    if forces or old.digest != entry.digest or (old.process_id is not None and old.process_id not in views):
        applied.changed.append(short)
        return replace(entry, earlier=old.process_id or old.earlier)
    kept = replace(old, needs=entry.needs, disabled=entry.disabled, wanted=True, error=None)
    view = None if old.process_id is None else views.get(old.process_id)
    if view is not None and not entry.disabled and is_over(view) and not succeeded(view):
        applied.restarted.append(short)
        return replace(kept, again=True)
    applied.unchanged.append(short)
    return kept
