"""The census of processes that are in use, which retention leaves alone."""

from collections.abc import Iterator
from typing import Protocol

from outlast.core.supervision.supervisor import Supervisor
from outlast.model.process import ProcessSpec
from outlast.storage import Storage


class Managed(Protocol):
    """A managed process that is to run, or has not ended."""

    spec: ProcessSpec


class Registry(Protocol):
    """All of them, by id."""

    def __iter__(self) -> Iterator[Managed]: ...

    def get(self, process_id: str) -> Managed | None:
        """Return the one with an id."""


class Census:
    """The processes of one daemon that run, or may be restarted by their policy, and the number of others."""

    def __init__(self, storage: Storage, supervisor: Supervisor, registry: Registry) -> None:
        self._storage = storage
        self._supervisor = supervisor
        self._registry = registry

    def is_in_use(self, process_id: str) -> bool:
        """Return whether a process runs, or may be restarted by its policy."""
        return self._supervisor.get(process_id) is not None or self._registry.get(process_id) is not None

    async def count_ended(self) -> int:
        """Return the number of stored processes that are neither in use nor kept always."""
        specs = {live.spec.id: live.spec for live in self._supervisor if live.handle}
        specs |= {managed.spec.id: managed.spec for managed in self._registry}
        always = sum(spec.options.keep is not None and spec.options.keep.always for spec in specs.values())
        return self._supervisor.total - len(specs) - (await self._storage.kept_always() - always)
