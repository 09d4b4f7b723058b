"""Projects as they are kept: what is declared, and which process stands for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast.core.commands import users
from outlast.core.commands.start_request import StartRequest
from outlast.core.supervision.spec_record import spec_from_record, spec_to_record
from outlast.model.process import ProcessSpec
from outlast.model.project import Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A declared process as a client gives it.

    Attributes:
        start: its start, without name and key.
        needs: for which condition of which others it waits.
        disabled: whether it is declared only, and not started.
    """

    start: StartRequest
    needs: Mapping[str, Need] = field(default_factory=dict)
    disabled: bool = False


@dataclass(slots=True, kw_only=True)
class Entry:
    """A declared process as it is kept.

    Attributes:
        spec: specification of its process, without an id.
        encrypted_env: its environment, encrypted; None: it has none of its own.
        digest: keyed digest of specification and environment: another one means that it has changed.
        needs: for which condition of which others it waits.
        disabled: whether it is declared only.
        key: idempotency key of its start, so that no kill of the daemon makes two of it.
        process_id: its process; None: it is not started.
        earlier: the process that it replaces, which ends before; None: none.
        wanted: whether it is to run.
        again: whether its process, which has ended, is to be started again.
        error: why it could not be started. Not kept: the next daemon tries again.
    """

    spec: ProcessSpec
    encrypted_env: str | None
    digest: str
    needs: Mapping[str, Need]
    disabled: bool
    key: str
    process_id: str | None = None
    earlier: str | None = None
    wanted: bool = True
    again: bool = False
    error: str | None = None

    @property
    def has_check(self) -> bool:
        """Whether something tells when it is healthy."""
        return self.spec.options.health_check is not None or self.spec.options.ready_log is not None

    def request(self, env: Mapping[str, str]) -> StartRequest:
        """Return the request that starts its process. `env`: its environment, decrypted."""
        spec = self.spec
        return StartRequest(
            command=spec.command,
            args=spec.args,
            env=env,
            working_dir=spec.working_dir,
            user=users.parse(spec.user),
            stdin_mode=spec.stdin_mode,
            stdout_mode=spec.stdout_mode,
            stderr_mode=spec.stderr_mode,
            name=spec.name,
            tags=spec.tags,
            idempotency_key=self.key,
            options=spec.options,
        )


@dataclass(slots=True, kw_only=True)
class ProjectRecord:
    """A project as it is kept.

    Attributes:
        name: its name.
        folder: folder that it was declared in, for people.
        entries: the declared processes, by their short names.
        orphans: processes that are declared no more and may run: ids by their short names.
        leaving: those of them that are to end.
        ending: whether the whole project is to end.
    """

    name: str
    folder: str
    entries: dict[str, Entry] = field(default_factory=dict)
    orphans: dict[str, str] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)
    ending: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON, which `from_json` reads."""
        return {
            "name": self.name,
            "folder": self.folder,
            "entries": {name: _entry_to_json(entry) for name, entry in self.entries.items()},
            "orphans": self.orphans,
            "leaving": self.leaving,
            "ending": self.ending,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ProjectRecord":
        """Return the record that `to_json` has made. Fails in any way if it has not."""
        return cls(
            name=data["name"],
            folder=str(data["folder"]),
            entries={name: _entry_from_json(entry) for name, entry in data["entries"].items()},
            orphans=_ids(data["orphans"]),
            leaving=_ids(data["leaving"]),
            ending=bool(data["ending"]),
        )


def _ids(data: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(each) for name, each in data.items()}


_KEPT = ("encrypted_env", "digest", "disabled", "key", "process_id", "earlier", "wanted", "again")


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    kept = {name: getattr(entry, name) for name in _KEPT}
    return {**kept, "spec": spec_to_record(entry.spec), "needs": dict(entry.needs)}


def _entry_from_json(data: Mapping[str, Any]) -> Entry:
    needs = {name: Need(need) for name, need in data["needs"].items()}
    return Entry(**{**data, "spec": spec_from_record(data["spec"]), "needs": needs})
