"""The user that a process runs as, resolved to ids before the shim gets the command."""

import errno
import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from outlast.model.errors import SpawnFailed
from outlast.model.shortage import shortages_told


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpec:
    """A user as a request names it: by name or uid, and perhaps a group, by name or gid."""

    name: str | None = None
    uid: int | None = None
    group: str | None = None
    gid: int | None = None

    def __str__(self) -> str:
        user = self.name if self.name is not None else str(self.uid)
        if self.group is None and self.gid is None:
            return user
        return f"{user}:{self.group if self.group is not None else self.gid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user's ids, name and home. For the daemon's own user, `uid`, `gid` and `groups` are None: nothing changes."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    name: str
    home: str


def parse(text: str | None) -> UserSpec | None:
    """Return the `UserSpec` that `str` has turned into `text`."""
    if text is None:
        return None
    user, _, group = text.partition(":")
    return UserSpec(
        name=None if user.isdecimal() else user,
        uid=int(user) if user.isdecimal() else None,
        group=group if group and not group.isdecimal() else None,
        gid=int(group) if group.isdecimal() else None,
    )


def resolve(user: UserSpec | None) -> Identity:
    """Look up a user; None is the daemon's own. May block: call it in a thread.

    Raises:
        SpawnFailed: the user or the group does not exist, or the daemon may not start processes as another user.
        OutOfResources: the list of users cannot be read now.
    """
    own = os.geteuid()
    if user is None:
        entry = _by_uid(own)
        return Identity(uid=None, gid=None, groups=None, name=_name(entry, own), home=_home(entry))
    entry = _by_name(user.name) if user.name is not None else _by_uid(user.uid or 0)
    if entry is None:
        _check_readable()
    if entry is None and user.name is not None:
        raise SpawnFailed(f"user {user.name!r} does not exist on this machine", errno.EINVAL)
    uid = entry.pw_uid if entry is not None else user.uid or 0
    gid = _gid(user, entry.pw_gid if entry is not None else uid)
    if own != 0 and (uid, gid) != (own, os.getegid()):
        raise SpawnFailed(
            f"the daemon runs as uid {own} and may not start processes as user {user}: run it as root, or omit `user`",
            errno.EPERM,
        )
    if own != 0:
        return Identity(uid=None, gid=None, groups=None, name=_name(entry, uid), home=_home(entry))
    groups = tuple(os.getgrouplist(entry.pw_name, gid)) if entry is not None else (gid,)
    return Identity(uid=uid, gid=gid, groups=groups, name=_name(entry, uid), home=_home(entry))


def _gid(user: UserSpec, default: int) -> int:
    """Return the id of the group that `user` names, or `default` where it names none.

    Raises:
        SpawnFailed: there is no group of that name.
    """
    if user.group is None:
        return default if user.gid is None else user.gid
    try:
        return grp.getgrnam(user.group).gr_gid
    except KeyError:
        raise SpawnFailed(f"group {user.group!r} does not exist on this machine", errno.EINVAL) from None


def _by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _by_uid(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _check_readable() -> None:
    """Raise `OutOfResources` if no file can be opened: `pwd` then says that it does not know the user."""
    with shortages_told("read the list of users"):
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))


def _name(entry: pwd.struct_passwd | None, uid: int) -> str:
    return entry.pw_name if entry is not None else str(uid)


def _home(entry: pwd.struct_passwd | None) -> str:
    return entry.pw_dir if entry is not None and Path(entry.pw_dir).is_dir() else "/"
