"""The file `address` in the state folder, by which clients on this machine find the daemon."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

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
        _write(path, "".join(f"{address}\n" for address in addresses))
    except OSError as exc:
        with contextlib.suppress(OSError):
            path.unlink()  # it may name another address
        log.warning("the address file %s cannot be written: %s; clients have to be told the address", path, exc)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
        fresh.rename(path)  # so that nobody reads a part of an address
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
