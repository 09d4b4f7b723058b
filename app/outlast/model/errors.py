"""Every error that the product raises on purpose.

OutlastError
|-- InvalidRequest          the caller's input is wrong; the sentence names the field
|-- NotFound                no such process
|-- NotManaged              nobody looks after the process, so nobody can start it again
|-- NotRunning              the process has ended
|-- StdinNotWritable        its standard input is not a pipe, or is closed
|-- Forbidden               the system does not let the daemon do it
|-- NameInUse               a live process holds the name
|-- TooLarge                the request's body is over the limit
|-- EnvKeyLost              the environment of a managed process can't be opened
|-- SpawnFailed             the system could not start it (errno)
|-- Unavailable             try again later
|   |-- StorageUnavailable  the store cannot commit now (disk full, locked, unreachable)
|   `-- ShimUnavailable     the shim cannot be reached now
|-- StorageError            the store cannot be used at all: newer schema, damaged file, bad URL
|-- ProtocolError           the other end of the shim's socket does not speak our version
|-- AlreadyServed           another daemon holds this state folder
`-- ConfigError             a setting is wrong; the sentence names it
"""


class OutlastError(Exception):
    """Base of all. `str()` is one sentence that says what to do."""


class InvalidRequest(OutlastError):
    """The caller's input is wrong."""


class NotFound(OutlastError):
    """No such process."""


class NotRunning(OutlastError):
    """The process has ended."""


class NotManaged(OutlastError):
    """Nobody looks after the process, so nobody can start it again."""


class StdinNotWritable(OutlastError):
    """The process's standard input is not a pipe, or is closed."""


class Forbidden(OutlastError):
    """The system does not let the daemon do it."""


class NameInUse(OutlastError):
    """A live process holds the name."""


class TooLarge(OutlastError):
    """The request's body is over the limit."""


class SpawnFailed(OutlastError):
    """The system could not start the process. `errno` is the system's error number."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class EnvKeyLost(OutlastError):
    """The environment of a managed process can't be opened: its key is gone."""


class Unavailable(OutlastError):
    """It cannot be done now; try again after `retry_after_s` seconds."""

    retry_after_s = 1


class StorageUnavailable(Unavailable):
    """The store cannot commit now. Nothing of the batch was stored."""


class ShimUnavailable(Unavailable):
    """The shim cannot be reached now."""


class StorageError(OutlastError):
    """The store cannot be used at all."""


class ProtocolError(OutlastError):
    """The other end of the shim's socket does not speak our version of the protocol."""


class AlreadyServed(OutlastError):
    """Another daemon holds this state folder."""


class ConfigError(OutlastError):
    """A setting is wrong."""
