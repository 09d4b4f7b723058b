"""`outlast serve`: open everything, listen, and close everything in the opposite order."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from outlast import __version__
from outlast.api.application import make_app
from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.daemon import state_folder, unix_listener
from outlast.daemon.composition import running_manager
from outlast.daemon.preload import import_late_modules
from outlast.daemon.systemd_notify import notify_ready
from outlast.daemon.token import check_length, load_token
from outlast.linux.memory import keep_freed_memory
from outlast.model.errors import ConfigError
from outlast.storage import storage_from_url

log = logging.getLogger(__name__)

_BACKLOG = 1024
_HANDLER_TIMEOUT_S = 5.0
_UNIX = "unix:"
_MAX_PORT = 65535


async def serve(settings: Settings, announce: Callable[[str], None], *, adopt: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, and leave the processes running.

    Args:
        settings: the settings of the daemon.
        announce: called with the daemon's address, once it serves requests.
        adopt: whether to take over a store of another state folder with its managed processes.

    Returns:
        Number of processes that continue to run.

    Raises:
        OutlastError: the daemon cannot start.
    """
    keep_freed_memory()
    logging.getLogger("aiohttp.server").addFilter(_is_not_malformed_request)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = settings.state_path
    _check_address(settings)
    storage_from_url(settings.storage_url)
    state_folder.prepare(state_dir)  # what is wrong with the settings is said before anything is made
    with state_folder.locked(state_dir):
        token = load_token(state_dir, settings.token)
        # The socket comes before anything is started: a port in use is a common mistake.
        with _bound_socket(settings) as sock:
            import_late_modules()
            async with running_manager(settings, adopt=adopt) as manager:
                manager.resume_managed()
                await _serve_on(sock, manager, token, settings, announce, stop)
                return manager.running()


def _is_not_malformed_request(record: logging.LogRecord) -> bool:
    """Return False for the log record of a malformed request: any client can send one, and it may contain the token."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


async def _serve_on(
    sock: socket.socket,
    manager: ProcessManager,
    token: str,
    settings: Settings,
    announce: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    host = settings.listen.rpartition(":")[0]
    app = make_app(manager, token=token, version=__version__, allowed_hosts=[host])
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_HANDLER_TIMEOUT_S,
        handle_signals=False,
    )
    await runner.setup()
    # Objects that exist now are never freed: the garbage collector does not have to visit them.
    gc.collect()
    gc.freeze()
    try:
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()
        announce(_address(sock))
        notify_ready()
        await stop.wait()
    finally:
        await runner.cleanup()


def _check_address(settings: Settings) -> None:
    """Check the listen address.

    Raises:
        ConfigError: the address is invalid, or is reachable from the network and no long token is set.
    """
    if not settings.listen.startswith(_UNIX):
        host, _port = _parse(settings.listen)
        if not _is_loopback(host):
            check_length(settings.token, host)


@contextlib.contextmanager
def _bound_socket(settings: Settings) -> Iterator[socket.socket]:
    """Bind the listen address; at the end, close the socket, and remove its file if it has one.

    Raises:
        ConfigError: the address is in use.
    """
    path = Path(settings.listen.removeprefix(_UNIX)).absolute() if settings.listen.startswith(_UNIX) else None
    try:
        if path is not None:
            sock = unix_listener.bind(path, mode=settings.unix_socket_mode, group=settings.unix_socket_group)
        else:
            host, port = _parse(settings.listen)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.create_server((host, port), family=family, backlog=0)
    except OSError as exc:
        raise ConfigError(
            f"cannot listen on {settings.listen}: {exc.strerror or exc}; choose another --listen"
        ) from None
    with sock:
        own_file = None if path is None else unix_listener.file_id(path)
        try:
            yield sock
        finally:
            # While the socket is open, no other file gets the number of its inode.
            if path is not None and unix_listener.file_id(path) == own_file:
                path.unlink()


def _parse(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise ConfigError(f"listen {listen!r} is not HOST:PORT (or unix:/path), for example 127.0.0.1:9501")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return f"{_UNIX}{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
