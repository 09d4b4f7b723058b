"""`outlast prune`: delete what is beyond the limits of retention while no daemon runs."""

import asyncio
import contextlib

from outlast.config import Settings
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.retention.account import Account
from outlast.core.retention.purger import Purger
from outlast.core.retention.trimmer import OutputTrimmer
from outlast.core.supervision.ownership import claim_store
from outlast.daemon import state_folder
from outlast.daemon.retention_policy import retention_policy
from outlast.model.errors import AlreadyServed
from outlast.model.retention import Rule
from outlast.storage import EndedProcess, PurgeProcess, Storage, storage_from_url

_STOP_S = 5.0


class _Offline:
    """The purges and counts of a store whose processes nobody starts or ends meanwhile."""

    def __init__(self, storage: Storage, committer: Committer) -> None:
        self._storage = storage
        self._committer = committer

    def purge_ended(self, ended: EndedProcess, rule: Rule) -> asyncio.Future[int]:
        """Purge a process that has ended."""
        return self._committer.stored(PurgeProcess(ended.handle, rule))

    def is_in_use(self, _process_id: str) -> bool:
        """Return False: `Storage.ended` leaves out what runs, or is to run."""
        return False

    async def count_ended(self) -> int:
        """Return the number of processes that neither run, nor are to run, nor are kept always."""
        in_use = {process.spec.id: process.spec for process in await self._storage.supervised()}
        in_use |= {entry.process.spec.id: entry.process.spec for entry in await self._storage.unfinished()}
        always = sum(spec.options.keep is not None and spec.options.keep.always for spec in in_use.values())
        return await self._storage.total() - len(in_use) - (await self._storage.kept_always() - always)


async def prune(settings: Settings) -> str:
    """Delete what is beyond the limits, and return how much that was by which setting; empty: nothing.

    Raises:
        AlreadyServed: a daemon runs, which does this by itself.
        OutlastError: the store cannot be used.
    """
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(state_folder.locked(settings.state_path))
        except AlreadyServed as exc:
            raise AlreadyServed(f"{exc}. A daemon that runs prunes by itself, by the settings of its start") from None
        policy = retention_policy(settings)
        storage = storage_from_url(settings.storage_url, durable=settings.durable)
        await storage.open()
        try:
            if (why := await claim_store(storage, settings.state_path, adopt=False)) is not None:
                raise AlreadyServed(why)
            account, committer = Account(), Committer(storage)
            offline = _Offline(storage, committer)
            committer.start()
            try:
                await OutputTrimmer(storage, committer, ChunkCache(), policy, account).trim()
                await Purger(storage, offline, policy, account, offline).purge()
            finally:
                await committer.stop(_STOP_S)
            await storage.finish_cleanup()
            return account.summary()
        finally:
            await storage.close()
