"""Children that share this process's memory until they execute a program: none of it is copied for them.

Python cannot run in such a child, for it would change what this process has in memory. The child runs a chain of calls
of the C library instead, which was prepared before: a context of makecontext(3) for each call, each linked to the next.
A chain cannot branch. So only calls belong in it that cannot fail, or after whose failure the next ones are harmless.

Every process that is started begins as a copy of this module's importer, or in its memory: it imports next to nothing.
"""

import ctypes
import mmap
import os
import struct
import sys

_CONTEXT_BYTES = {"x86_64": 1024, "aarch64": 4608}
"""Room for a `ucontext_t`, by machine."""
_LINK_AND_STACK = struct.Struct("=QQQQ")  # uc_link, uc_stack: on every 64-bit machine behind the flags
_LINK_AT = 8
_WORD = struct.Struct("=i")
_STACK_BYTES = 12 << 10
_TOP_BYTES = 64
"""Top of a stack, where makecontext(3) writes. The stacks of a chain overlap but for that: calls run in turn."""
_CLONE_VM, _CLONE_PARENT, _CLONE_CHILD_CLEARTID = 0x100, 0x8000, 0x200000
_SIGCHLD = 17
_PROBE_CODE = 42

_reserved: list[mmap.mmap] = []
"""Memory of all chains. It is never given back: a child may be running in it."""

Call = tuple[str | int, ...]
"""A call: the name of a function of the C library, then its arguments, which are whole numbers or addresses."""

# PyDLL: nothing else runs in this process meanwhile, and the calls are too short to give the interpreter's lock up.
_LIBC = ctypes.PyDLL(None, use_errno=True)


def is_possible() -> bool:
    """Return whether this machine and its C library can run chains: one is run, in a child that may crash."""
    if sys.maxsize < 1 << 32 or os.uname().machine not in _CONTEXT_BYTES or not hasattr(_LIBC, "makecontext"):
        return False
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        try:
            chain = Chain(calls=3, data_bytes=8)
            copy = ("memcpy", chain.data_at, chain.data_at + 4, 4)
            chain.write_data(_WORD.pack(0) + _WORD.pack(_PROBE_CODE))
            child = chain.start([("setsid",), copy, ("_exit", _PROBE_CODE)], 0)
            status = os.waitpid(child, 0)[1]
            is_right = os.waitstatus_to_exitcode(status) == _PROBE_CODE and not chain.is_running
            os._exit(0 if is_right and chain.read_data(_WORD.size) == _WORD.pack(_PROBE_CODE) else 1)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


class Chain:
    """The memory of one child: contexts, a stack, and data for the arguments. To be used again once the child is out.

    A process whose children run in its memory must end by `os._exit`, which leaves the memory to them.

    Attributes:
        data_at: address of the data.
        data_bytes: size of the data.
    """

    def __init__(self, calls: int, data_bytes: int) -> None:
        """Reserve memory, which takes room once it is used.

        Args:
            calls: how many calls a child makes at most.
            data_bytes: size of the data.

        Raises:
            OSError: there is no memory now.
        """
        context_bytes = _CONTEXT_BYTES[os.uname().machine]
        tops_at = _STACK_BYTES
        contexts_at = -(-(tops_at + (calls + 1) * _TOP_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._running_at = contexts_at + calls * context_bytes
        self._data_at = self._running_at + _TOP_BYTES
        self._memory = mmap.mmap(-1, self._data_at + data_bytes)
        _reserved.append(self._memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.data_at, self.data_bytes = start + self._data_at, data_bytes
        self._running_address = start + self._running_at
        self._stack_top = start + tops_at
        self._contexts = [start + contexts_at + number * context_bytes for number in range(calls)]
        self._made: list[Call] = [()] * calls
        self._tops = slice(tops_at, tops_at + (calls + 1) * _TOP_BYTES)
        self._fresh_tops = bytes((calls + 1) * _TOP_BYTES)
        for number, context in enumerate(self._contexts):
            _check(_LIBC.getcontext(ctypes.c_void_p(context)))
            following = self._contexts[number + 1] if number + 1 < calls else 0
            stack = _LINK_AND_STACK.pack(following, start, 0, tops_at + (number + 1) * _TOP_BYTES)
            at = context - start + _LINK_AT
            self._memory[at : at + len(stack)] = stack

    @property
    def is_running(self) -> bool:
        """Whether the child still uses this memory: it has neither executed a program nor ended."""
        return self._memory[self._running_at : self._running_at + _WORD.size] != bytes(_WORD.size)

    def write_data(self, data: bytes, offset: int = 0) -> None:
        """Replace a part of the data."""
        at = self._data_at + offset
        self._memory[at : at + len(data)] = data

    def read_data(self, size: int) -> bytes:
        """Return the beginning of the data."""
        return self._memory[self._data_at : self._data_at + size]

    def start(self, calls: list[Call], flags: int = _CLONE_PARENT) -> int:
        """Make a child that makes `calls`, the last of which does not return. Return its pid.

        With the default `flags`, the child is one of this process's parent.

        Raises:
            OSError: the kernel refuses.
        """
        self._memory[self._tops] = self._fresh_tops  # the calls of the last child have used their stacks up
        changed = [
            (number, call)
            for number, call in enumerate(calls, len(self._contexts) - len(calls))
            if call != self._made[number]
        ]
        for number, call in changed:
            self._make(number, call)
        if changed:
            self._fresh_tops = self._memory[self._tops]
        first = self._contexts[-len(calls)]
        self._memory[self._running_at : self._running_at + _WORD.size] = _WORD.pack(1)
        pid: int = _LIBC.clone(
            _address("setcontext"),
            ctypes.c_void_p(self._stack_top),
            _CLONE_VM | _CLONE_CHILD_CLEARTID | _SIGCHLD | flags,
            ctypes.c_void_p(first),
            None,
            None,
            ctypes.c_void_p(self._running_address),
        )
        if pid < 0:
            self._memory[self._running_at : self._running_at + _WORD.size] = bytes(_WORD.size)
            _check(pid)
        return pid

    def _make(self, number: int, call: Call) -> None:
        name, *arguments = call
        words = [ctypes.c_void_p(int(word)) for word in arguments]
        _LIBC.makecontext(ctypes.c_void_p(self._contexts[number]), _address(name), len(words), *words)
        self._made[number] = call


def errno_address() -> int:
    """Return the address of the C library's error number. The children of this thread write to it, too."""
    find = _LIBC["__errno_location"]
    find.restype = ctypes.c_void_p
    address: int = find()
    return address


def _address(name: str | int) -> ctypes.c_void_p:
    return ctypes.cast(getattr(_LIBC, str(name)), ctypes.c_void_p)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
