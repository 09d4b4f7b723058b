"""The errors that the product raises on purpose, drawn as one tree.

Those that a client of the API can meet are defined here; `outlast.api.errors` maps them to HTTP statuses and codes.
The others stand beside the code that handles them, in the module that is named behind them.

OutlastError
|-- InvalidRequest          the request is wrong; the sentence names the field
|-- NotFound                there is no such process, or no such file
|   |-- ProcessGone         the process was purged meanwhile (outlast.client)
|   `-- SessionNotFound     no session of a terminal has this id
|-- TooManySessions         too many terminals are open
|-- InvalidToken            the token of a terminal is wrong
|-- NotManaged              the process is not managed, so it cannot be restarted
|-- NotRunning              the process has ended
|-- StdinNotWritable        the process's standard input is not a pipe, or is closed
|-- Forbidden               the kernel, or a setting, does not permit the daemon to do this
|-- NameInUse               another live process has the name
|-- TooLarge                the request's body is larger than the limit
|-- NoSpace                 no room for a file; the old one stays
|-- EnvKeyLost              the environment of a managed process cannot be decrypted
|-- SpawnFailed             the kernel could not start the process (errno)
|-- Interrupted             the call was done in part, or nobody knows whether it was done
|-- Unavailable             nothing was done: try again later
|   |-- OutOfResources      the system lacks processes, descriptors or memory now
|   |-- OutputTrimmed       output was deleted because of a limit while it was read
|   |-- StorageUnavailable  the store cannot commit now (locked, unreachable)
|   |   `-- StorageFull     the disk or the quota of the store is full
|   `-- ShimUnavailable     the shim cannot be reached now
|       |-- NotSent         the connection to the shim broke before a request was sent (outlast.shimlink)
|       `-- NoAnswer        the shim got a request and did not answer: perhaps it has done it
|           `-- ShimLost    the connection to the shim broke (outlast.shimlink)
|               `-- GreetingCut  it broke during the greeting (outlast.shimlink)
|-- SpawnRefused            the shim could not start a process (outlast.shimlink); becomes a SpawnFailed
|-- Unauthorized            the token is missing or wrong (outlast.client)
|-- Disconnected            the daemon cannot be reached, or the connection broke (outlast.client)
|-- ProcessFailed           a command that was run did not exit with 0 (outlast.client)
|-- UnexpectedAnswer        the answer is none of Outlast's (outlast.client)
|-- EndsNotStored           the processes were told to end, and their ends or output cannot be stored now
|-- StorageError            the store cannot be used at all: newer schema, bad URL
|   `-- StorageDamaged      the store is damaged
|-- ProtocolError           the other end of the shim's socket speaks another version of the protocol
|-- AlreadyServed           another daemon uses the state folder or the store
`-- ConfigError             a setting is wrong; the sentence names it

Exception
|-- FollowInterrupted       the daemon is shutting down, so a follower's stream ends (outlast.core)
|-- BadAnswerError          the answer is cut, or breaks HTTP/1.1 (outlast.client)
|-- BadFrameError           the answer breaks the websocket protocol (outlast.client)
|-- _OverError              the process whose output a command shows has ended (outlast.cli)
`-- WireError               a message on the shim's socket breaks the protocol (outlast.wire)

OSError
`-- LimitRefused            the kernel refuses a limit of a process (outlast.shim)
"""

import contextlib
from collections.abc import Iterator, Mapping


class OutlastError(Exception):
    """Base class. `str()` is one sentence that says what happened and, where that is not obvious, what to do.

    Attributes:
        code: code by which a client of the API decides; empty: no client meets the error.
        details: more fields for the client.
    """

    code: str = ""
    details: Mapping[str, int] = {}


class InvalidRequest(OutlastError):
    """The request is wrong; the sentence names the field."""

    code = "INVALID_REQUEST"


class NotFound(OutlastError):
    """No process has this pid, id, name or handle, or there is no such file."""

    code = "NOT_FOUND"


class SessionNotFound(NotFound):
    """No session of a terminal has this id: no client can attach to it."""

    code = "SESSION_NOT_FOUND"


class TooManySessions(OutlastError):
    """Too many terminals are open."""

    code = "TOO_MANY_SESSIONS"


class InvalidToken(OutlastError):
    """The token is not that of the terminal."""

    code = "INVALID_TOKEN"


class NotRunning(OutlastError):
    """The process has ended."""

    code = "NOT_RUNNING"


class NotManaged(OutlastError):
    """The process is not managed, so it cannot be restarted."""

    code = "NOT_MANAGED"


class StdinNotWritable(OutlastError):
    """The process's standard input is not a pipe, or is closed."""

    code = "STDIN_NOT_WRITABLE"


class Forbidden(OutlastError):
    """The kernel, or a setting, does not permit the daemon to do this."""

    code = "FORBIDDEN"


class NameInUse(OutlastError):
    """Another live process has the name."""

    code = "NAME_IN_USE"


class TooLarge(OutlastError):
    """The request's body is larger than the limit."""

    code = "TOO_LARGE"


class NoSpace(OutlastError):
    """The disk or a quota has no room for a file, or the file would be too large. The old one stays."""

    code = "NO_SPACE"


class SpawnFailed(OutlastError):
    """The kernel could not start the process. `errno` is the kernel's error number."""

    code = "SPAWN_FAILED"

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno
        self.details = {"errno": errno}


class EnvKeyLost(OutlastError):
    """The environment of a managed process cannot be decrypted: its key is gone."""

    code = "ENV_KEY_LOST"


class Interrupted(OutlastError):
    """The call was done in part, or nobody knows whether it was done; the sentence says how far."""

    code = "INTERRUPTED"


class Unavailable(OutlastError):
    """The daemon cannot do this now; try again after `retry_after_s` seconds.

    Clients repeat a call that gets this. So a call raises it only while nothing was done (`after_effects`).
    """

    code = "UNAVAILABLE"
    retry_after_s = 1


class OutOfResources(Unavailable):
    """The system lacks processes, threads, descriptors or memory now. Nothing was done."""


class OutputTrimmed(Unavailable):
    """Output was deleted because of a limit while it was read. What comes behind it can be read."""


class StorageUnavailable(Unavailable):
    """The store cannot commit now. Nothing of the batch was stored."""


class StorageFull(StorageUnavailable):
    """The store has no room for the batch. It may have room for a smaller one."""


class ShimUnavailable(Unavailable):
    """The shim cannot be reached now."""


class NoAnswer(ShimUnavailable):
    """The shim got a request and did not answer. To a client this is an `Interrupted`."""

    code = Interrupted.code


@contextlib.contextmanager
def after_effects(done: str) -> Iterator[None]:
    """Turn an `Unavailable` into an `Interrupted`: something was done before. `done`: a clause that says what."""
    try:
        yield
    except Unavailable as exc:
        raise Interrupted(f"{done}, and then a step failed: {exc}") from exc


class EndsNotStored(OutlastError):
    """The processes were told to end, and the store cannot commit all of their output or their ends now.

    Attributes:
        ended: number of processes that were running.
    """

    def __init__(self, message: str, ended: int) -> None:
        super().__init__(message)
        self.ended = ended


class StorageError(OutlastError):
    """The store cannot be used at all."""


class StorageDamaged(StorageError):
    """The store is damaged: nothing can be stored in it, and only a backup helps."""


class ProtocolError(OutlastError):
    """The other end of the shim's socket speaks another version of the protocol."""


class AlreadyServed(OutlastError):
    """Another daemon uses the state folder or the store."""


class ConfigError(OutlastError):
    """A setting is wrong; the sentence names it."""
