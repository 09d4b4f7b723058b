"""A child that is made without a copy of the fork helper: for the starts that need nothing but what a chain can do.

It prepares itself and waits at its gate as one that was forked (`exec_child`). All others are forked: what may be
refused, such as a user, a terminal, a limit or a working folder, needs a decision, and a chain of calls has none.
"""

import os
import resource
import stat
import struct

from outlast.linux.chain import Call, Chain, errno_address, is_possible
from outlast.linux.marks import RLIMIT_LOCKS
from outlast.shim.launch.exec_child import FAILURE, FAILURE_AT, NO_CGROUP, ExecSpec
from outlast.wire.contract import GATE_BYTE, Stage

_MAX_CHAINS = 32
"""Maximum number of children of this kind that wait at their gates. Others are forked."""
_DATA_BYTES = 64 << 10
_CALLS = 15
_POINTER_BYTES = 8
_HEAD = struct.Struct("=cc6xQQQQ")
"""Beginning of the data: what a process writes to join its cgroup; the first byte of the report unless it has joined.

Then two limits: on open files, and the mark.
"""
_HAS_JOINED_AT, _OPEN_FILES_AT, _MARK_AT = 1, 8, 24
_FAILURE_AT, _PATH_AT = _HEAD.size, 64
_ERRNO_BYTES = struct.calcsize("=I")
_ERRNO_AT = _FAILURE_AT + FAILURE.size - _ERRNO_BYTES
_WHOLE_WORD = (1 << 64) - 1  # a limit of -1 is none


class QuickChildren:
    """Makes children in this process's memory."""

    def __init__(self, own: int) -> None:
        """`own`: a descriptor of this process, which no child may keep."""
        self._is_possible = is_possible()
        self._own = own
        self._errno_at = errno_address() if self._is_possible else 0
        self._chains: list[Chain] = []

    def start(self, spec: ExecSpec, fds: list[int]) -> int | None:
        """Make a child that runs `spec` once its gate is opened. Return its pid; None: it has to be forked.

        `fds`: as `exec_child` takes them, and the report file.
        """
        path = _find_program(spec) if self._is_possible and _is_plain(spec) else None
        chain = None if path is None else self._free_chain()
        if path is None or chain is None:
            return None
        group = -1
        try:
            os.chdir(spec.working_dir)
            if spec.group is not None:
                group = os.open(spec.group + "/cgroup.procs", os.O_RDWR | os.O_CLOEXEC)
            return self._start(chain, spec, path, fds, group)
        except (OSError, ValueError):  # the child that is forked meets the same, and reports it
            return None
        finally:
            os.chdir("/")
            if group >= 0:
                os.close(group)

    def _start(self, chain: Chain, spec: ExecSpec, path: bytes, fds: list[int], group: int) -> int:
        at = chain.data_at
        argv_at, env_at = _write_strings(chain, spec, path)
        limits = (*spec.open_files, spec.mark, resource.getrlimit(RLIMIT_LOCKS)[1])
        chain.write_data(_HEAD.pack(b"0", NO_CGROUP, *(limit & _WHOLE_WORD for limit in limits)))
        chain.write_data(FAILURE.pack(Stage.EXEC, 0), _FAILURE_AT)
        stdin, stdout, stderr, gate, _outcome, report = fds
        calls: list[Call] = [
            ("setsid",),
            ("setrlimit", resource.RLIMIT_NOFILE, at + _OPEN_FILES_AT),
            ("dup2", stdin, 0),
            ("dup2", stdout, 1),
            ("dup2", stderr, 2),
            ("close", self._own),
            ("setrlimit", RLIMIT_LOCKS, at + _MARK_AT),
            # The gate's byte completes the path: if the gate is closed without it, there is no program to execute.
            ("read", gate, at + _PATH_AT, len(GATE_BYTE)),
            ("execve", at + _PATH_AT, argv_at, env_at),
            ("memcpy", at + _ERRNO_AT, self._errno_at, _ERRNO_BYTES),
            ("pwrite", report, at + _FAILURE_AT, FAILURE.size, FAILURE_AT),
            ("_exit", 127),
        ]
        if group >= 0:
            calls[:0] = [
                ("write", group, at, 1),
                ("pread", group, at + _HAS_JOINED_AT, 1, 0),  # a digit of its pid, which is alone there
                ("pwrite", report, at + _HAS_JOINED_AT, 1, 0),
            ]
        return chain.start(calls)

    def _free_chain(self) -> Chain | None:
        for chain in self._chains:
            if not chain.is_running:
                return chain
        if len(self._chains) == _MAX_CHAINS:
            return None
        try:
            self._chains.append(Chain(_CALLS, _DATA_BYTES))
        except OSError:
            return None
        return self._chains[-1]


def _is_plain(spec: ExecSpec) -> bool:
    """Return whether a start needs no step that may be refused."""
    soft, hard = (limit & _WHOLE_WORD for limit in spec.open_files)
    return (
        not spec.has_terminal
        and spec.uid is None
        and spec.gid is None
        and spec.groups is None
        and spec.nice is None
        and not spec.limits
        and soft <= hard <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] & _WHOLE_WORD
    )


def _find_program(spec: ExecSpec) -> bytes | None:
    """Return the path of a program. None: it is not that simple, and the child that is forked shall find it."""
    name = spec.argv[0]
    if "/" in name:
        return os.fsencode(name) if name.startswith("/") else None
    for folder in spec.env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        try:
            is_file = stat.S_ISREG(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
        return os.fsencode(path) if path.startswith("/") and is_file and os.access(path, os.X_OK) else None
    return None


def _write_strings(chain: Chain, spec: ExecSpec, path: bytes) -> tuple[int, int]:
    """Write path, arguments and environment for execve(2). Return the addresses of the last two.

    Raises:
        ValueError: they do not fit, or are nothing that execve(2) takes.
    """
    argv = [os.fsencode(word) for word in spec.argv]
    env = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in spec.env.items()]
    if any("=" in name or not name for name in spec.env):
        raise ValueError
    strings = [path, *argv, *env]
    text = b"\0".join(strings) + b"\0"
    if text.count(b"\0") != len(strings):
        raise ValueError
    table_at = _PATH_AT + -(-len(text) // _POINTER_BYTES) * _POINTER_BYTES
    addresses, address = [], chain.data_at + _PATH_AT
    for string in strings:
        addresses.append(address)
        address += len(string) + 1
    pointers = [*addresses[1 : 1 + len(argv)], 0, *addresses[1 + len(argv) :], 0]
    table = struct.pack(f"={len(pointers)}Q", *pointers)
    if table_at + len(table) > chain.data_bytes:
        raise ValueError
    chain.write_data(b"\0" + text[1:], _PATH_AT)
    chain.write_data(table, table_at)
    argv_at = chain.data_at + table_at
    return argv_at, argv_at + (len(argv) + 1) * _POINTER_BYTES
