"""`outlast serve`: open everything, listen, and close everything in the opposite order."""

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Callable
from importlib.metadata import version

from outlast.api.application import make_app
from outlast.api.server import HttpServer
from outlast.config import Settings
from outlast.daemon import state_folder
from outlast.daemon.api_sockets import announced, as_socket, open_api_sockets
from outlast.daemon.composition import running_manager
from outlast.daemon.systemd_notify import notify_ready
from outlast.linux.memory import keep_freed_memory


async def serve(settings: Settings, announce: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT, and leave the processes running.

    The sockets stay with the shim: connections wait for the next daemon, and no other program can listen in between.

    Args:
        settings: the settings of the daemon.
        announce: called with the daemon's address, once it serves requests.

    Returns:
        Number of processes that continue to run.

    Raises:
        OutlastError: the daemon cannot start.
    """
    _raise_open_files_limit()
    keep_freed_memory()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = settings.state_path
    state_folder.prepare(state_dir)
    with state_folder.locked(state_dir):
        token = state_folder.load_token(state_dir, settings.token)
        # The sockets come before anything is started: a port in use is a common mistake.
        async with open_api_sockets(settings) as sockets, running_manager(settings, sockets) as manager:
            manager.resume_managed()
            hosts = [settings.listen.rpartition(":")[0], *settings.allowed_hosts]
            app = make_app(manager, token=token, version=version("outlast"), allowed_hosts=hosts)
            server = HttpServer(app)
            # Objects that exist now are never freed: the garbage collector does not have to visit them.
            gc.collect()
            gc.freeze()
            try:
                await server.listen(map(as_socket, sockets))
                announce(announced(settings.listen, sockets))
                notify_ready()
                await stop.wait()
            finally:
                await server.close()
            return manager.running()


def _raise_open_files_limit() -> None:
    """Raise the limit of open files as far as the system allows. Every follower is an open file."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
