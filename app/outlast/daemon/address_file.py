"""The file `address` in the state folder, by which clients on this machine find the daemon."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from outlast.linux.whole_file import replace_file

ADDRESS_NAME = "address"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def addresses_told(state_dir: Path, addresses: Sequence[str]) -> Iterator[None]:
    """Keep the daemon's addresses in the file, one in each line, while the context lasts.

    The file of a daemon that was killed stays, and names the address at which the next one listens, unless the settings
    change. A daemon that cannot write it serves all the same.
    """
    path = state_dir / ADDRESS_NAME
    try:
        replace_file(path, "".join(f"{address}\n" for address in addresses).encode(), is_synced=False)
    except OSError as exc:
        with contextlib.suppress(OSError):
            path.unlink()  # it may name another address
        log.warning("the address file %s cannot be written: %s; clients have to be told the address", path, exc)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
