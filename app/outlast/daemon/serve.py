"""`outlast serve`: open everything, listen, and close everything in the opposite order."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from outlast.api.application import make_app
from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.daemon import state_folder
from outlast.daemon.composition import running_manager
from outlast.daemon.systemd_notify import notify_ready
from outlast.linux.memory import keep_freed_memory
from outlast.model.errors import ConfigError

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
    _raise_open_files_limit()
    keep_freed_memory()
    logging.getLogger("aiohttp.server").addFilter(_is_not_malformed_request)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = settings.state_path
    state_folder.prepare(state_dir)
    with state_folder.locked(state_dir):
        token = state_folder.load_token(state_dir, settings.token)
        sock = _bind(settings)  # before anything is started: a port in use is a common mistake
        try:
            async with running_manager(settings, adopt=adopt) as manager:
                manager.resume_managed()
                await _serve_on(sock, manager, token, settings, announce, stop)
                return manager.running()
        finally:
            sock.close()
            if settings.listen.startswith(_UNIX):
                _unlink(settings.listen.removeprefix(_UNIX))


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
    app = make_app(manager, token=token, version=version("outlast"), allowed_hosts=[host])
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


def _raise_open_files_limit() -> None:
    """Raise the limit of open files as far as the system allows. Every follower is an open file."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind(settings: Settings) -> socket.socket:
    """Bind the listen address, without listening yet.

    Raises:
        ConfigError: the address is invalid or in use, or is reachable from the network and no token is set.
    """
    try:
        if settings.listen.startswith(_UNIX):
            return _bind_unix(Path(settings.listen.removeprefix(_UNIX)))
        host, port = _parse(settings.listen)
        if not settings.token and not _is_loopback(host):
            raise ConfigError(
                f"listening on {host} makes the daemon reachable from the network: first set OUTLAST_TOKEN to a secret"
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=0)
    except OSError as exc:
        raise ConfigError(
            f"cannot listen on {settings.listen}: {exc.strerror or exc}; choose another --listen"
        ) from None


def _bind_unix(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()  # this daemon holds the state folder's lock, so no other daemon of the folder uses the socket
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()


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
