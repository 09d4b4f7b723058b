"""Whether the store is this state folder's own, or another's: a copy, or one that another folder uses, too."""

import logging
import os
import re
from pathlib import Path

from outlast.linux import lock
from outlast.model.errors import AlreadyServed, ConfigError
from outlast.storage import Owner, Storage
from outlast.wire.contract import SHIM_LOCK_NAME
from outlast.wire.identity import IDENTITY_NAME, load_identity

log = logging.getLogger(__name__)


async def claim_store(storage: Storage, state_dir: Path, *, adopt: bool) -> str | None:
    """Make the store this state folder's own, unless managed processes of another folder are in it.

    Args:
        storage: the store, open.
        state_dir: the state folder.
        adopt: whether to make it this folder's own with them.

    Returns:
        None, or a sentence that says why the managed processes must not be started.

    Raises:
        AlreadyServed: the store is another folder's, whose processes run. Nothing was changed.
        ConfigError: the folder's identity can neither be read nor made.
        StorageUnavailable: the store cannot be read or written now.
    """
    own = Owner(_own_identity(state_dir), _as_text(state_dir))
    stored = await storage.owner()
    if stored == own:
        return None
    if stored is not None and stored.identity != own.identity:
        if not stored.is_copied and _is_running(_as_path(stored.state_dir)):
            raise AlreadyServed(
                f"the store belongs to the state folder {stored.state_dir}, whose processes run: first end them with "
                f"`outlast shutdown --state-dir {stored.state_dir}`, or name another store with the setting storage"
            )
        held = [] if adopt else await storage.supervised()
        if held:
            return (
                f"the store is that of the state folder {stored.state_dir}. It was copied or moved. Managed processes "
                f"in it are not started here ({len(held)}), because they may run there. If they are to run here, end "
                "the daemon, and start it once with `outlast serve --adopt`"
            )
        log.warning("the store was that of the state folder %s, and is that of %s now", stored.state_dir, state_dir)
    await storage.claim(own)
    return None


def _as_text(path: Path) -> str:
    r"""Return a path as text that a store can hold: each byte that is not UTF-8 as `\xNN`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _as_path(text: str) -> Path:
    """Return the path that `_as_text` was given."""
    hex_bytes = re.compile(rb"\\x([89a-f][0-9a-f])")
    return Path(os.fsdecode(hex_bytes.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())))


def _own_identity(state_dir: Path) -> str:
    try:
        return load_identity(state_dir).id
    except OSError as exc:
        raise ConfigError(
            f"the file {state_dir / IDENTITY_NAME} can neither be read nor made: {exc.strerror}; make room, or make it "
            "readable and writable for this user"
        ) from None


def _is_running(state_dir: Path) -> bool:
    """Return whether a shim runs for a state folder."""
    try:
        return lock.holder(state_dir / SHIM_LOCK_NAME) is not None
    except OSError:  # it is another user's
        return False
