"""References: the texts by which clients name a process, which are pid, id, name, and handle (`@12`)."""

from outlast.core.managed.registry import ManagedRegistry
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotFound, StorageError, Unavailable
from outlast.model.process import Process
from outlast.model.reference import handle_in, handle_text, pid_in
from outlast.model.ulid import is_ulid
from outlast.storage import Storage


class References:
    """The look-up of processes by reference."""

    def __init__(self, storage: Storage, registry: ManagedRegistry, supervisor: Supervisor) -> None:
        self._storage = storage
        self._registry = registry
        self._supervisor = supervisor

    async def find(self, ref: str) -> Process:
        """Find a process. Of several with the pid or name, return the live one, else the newest.

        Raises:
            NotFound: no process has this pid, id, name or handle.
        """
        process = await self._look_up(ref)
        if process is None:
            raise NotFound(
                f"there is no process {ref!r}: use the pid, id, name or handle (@12) of a process, as the list shows "
                "them"
            )
        return process

    async def id_of(self, ref: str) -> str:
        """Return the id that a permanent reference names: the reference, if it is an id; that of a handle's process.

        Raises:
            NotFound: no process has this handle.
        """
        return ref if handle_in(ref) is None else (await self.find(ref)).spec.id

    async def find_to_end(self, ref: str) -> Process:
        """Find a process that is to get a signal. A live one is found although the store cannot be read."""
        try:
            return await self.find(ref)
        except (StorageError, Unavailable):
            for live in self._supervisor:
                names = {live.spec.id, str(live.run.pid), live.spec.name, handle_text(live.handle)}
                if live.handle and ref in names:
                    return Process(handle=live.handle, spec=live.spec, run=live.run)
            raise

    async def _look_up(self, ref: str) -> Process | None:
        if (handle := handle_in(ref)) is not None:
            return await self._storage.process(handle)
        if (pid := pid_in(ref)) is not None:
            return await self._storage.process_by_pid(pid)
        if is_ulid(ref.upper()):
            return await self._storage.process_by_id(ref.upper())
        if (holder := self._registry.name_holder(ref)) is not None:
            return await self._storage.process_by_id(holder)
        return await self._storage.process_by_name(ref)
