"""Outlast: processes, their output and their followers outlast the daemon.

Rooms, top to bottom; each imports only those below it (checked by import-linter, see pyproject.toml):

    cli | testing               the command; the storage conformance suite that third parties run
    client                      the Python client of the HTTP API, which the command uses, too
    daemon                      the composition root: wiring, sockets, order of start and shutdown
    api                         HTTP: routes, schemas, SSE, authentication, errors
    core                        what a process is: start, stop, capture, follow, recovery
    storage | shimlink | shim   the storage contract and its plug-ins; the daemon's end of the socket to the shim; the
                                shim, the long-lived parent of every process, which nobody imports
    wire | linux | config       the contract between daemon and shim; Linux's own system calls; settings
    model                       processes, runs, chunks, states, errors: pure, no I/O, no third party
    failpoints | shortages      named points at which tests let a process die; errors that tell of a shortage
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # that of `typing`, which would be imported for this alone
if TYPE_CHECKING:
    from outlast.client import AsyncOutlast, Outlast

__all__ = ["AsyncOutlast", "Outlast", "__version__"]


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: the daemon, the shim and most commands need none."""
    if name in {"AsyncOutlast", "Outlast"}:
        import importlib  # noqa: PLC0415 - see above

        return getattr(importlib.import_module("outlast.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
