"""Errors of the kernel about files, as errors of the API that tell a client what to do."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from outlast.model.errors import Forbidden, InvalidRequest, NoSpace, NotFound
from outlast.model.shortage import shortages_told

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextlib.contextmanager
def failures_told(doing: str, path: str) -> Iterator[None]:
    """Turn what the kernel says of a path into an error of the API.

    Args:
        doing: what cannot be done then, as in "read".
        path: the path that the client has named.

    Raises:
        NotFound: there is no such file.
        Forbidden: the daemon's user may not do this.
        InvalidRequest: the path is impossible, or the file is of a kind that does not permit this.
        NoSpace: the disk or a quota is full, or the file would be larger than the system allows.
        OutOfResources: the system lacks descriptors or memory now.
    """
    with shortages_told(f"{doing} a file"):
        try:
            yield
        except OSError as exc:
            number, said = exc.errno, os.strerror(exc.errno or 0)
            if number in _MISSING:
                raise NotFound(f"there is no file {path}: {said}") from None
            if number in _REFUSED:
                raise Forbidden(f"the daemon's user may not {doing} {path}: {said}") from None
            if number in _FULL:
                raise NoSpace(f"{path} is as it was: {said}; free some space, and try again") from None
            raise InvalidRequest(f"cannot {doing} {path}: {said}") from None


def check_regular(status: os.stat_result, path: str) -> None:
    """Check that a path names a file with contents.

    Raises:
        InvalidRequest: the path names a folder, a device, a pipe or a socket.
    """
    if stat.S_ISDIR(status.st_mode):
        raise InvalidRequest(f"{path} is a folder: /api/v1/files/list shows what is in it")
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequest(f"{path} is a device, a pipe or a socket, not a file")
