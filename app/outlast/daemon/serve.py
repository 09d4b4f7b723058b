"""`outlast serve`: open everything, listen, and close everything in the opposite order."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Sequence

from aiohttp import web

from outlast import __version__
from outlast.api.application import make_app
from outlast.api.server import HttpServer
from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.core.projects.projects import Projects
from outlast.daemon import state_folder
from outlast.daemon.address_file import addresses_told
from outlast.daemon.api_sockets import announced, as_socket, check_listen, open_api_sockets
from outlast.daemon.composition import running_manager
from outlast.daemon.preload import import_late_modules
from outlast.daemon.retention_policy import retention_policy
from outlast.daemon.systemd_notify import notify_ready
from outlast.daemon.token import check_given, load_token
from outlast.linux.memory import keep_freed_memory
from outlast.model.errors import OutlastError
from outlast.storage import storage_from_url


async def serve(settings: Settings, announce: Callable[[Sequence[str]], None], *, adopt: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, and leave the processes running.

    The sockets stay with the shim: connections wait for the next daemon, and no other program can listen in between.

    Args:
        settings: the settings of the daemon.
        announce: called with the daemon's addresses, once it serves requests.
        adopt: whether to take over a store of another state folder with its managed processes.

    Returns:
        Number of processes that continue to run.

    Raises:
        OutlastError: the daemon cannot start.
    """
    keep_freed_memory()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = settings.state_path
    check_listen(settings)
    storage_from_url(settings.storage_url)
    if settings.token:
        check_given(settings.token)
    made = state_folder.prepare(state_dir)  # what is wrong with the settings is said before anything is made
    with state_folder.locked(state_dir):
        retention = retention_policy(settings)
        import_late_modules()
        async with contextlib.AsyncExitStack() as opened:
            try:
                # The sockets come before anything is started: a port in use is a common mistake.
                sockets = await opened.enter_async_context(open_api_sockets(settings))
            except OutlastError:
                state_folder.remove(made)
                raise
            token = load_token(state_dir, settings.token)
            manager = await opened.enter_async_context(
                running_manager(settings, sockets, adopt=adopt, retention=retention)
            )
            manager.resume_managed()
            manager.start_retention()
            projects = Projects(manager, state_dir)
            opened.push_async_callback(projects.close)
            await projects.open()
            server = HttpServer(_app(manager, projects, settings, token))
            # Objects that exist now are never freed: the garbage collector does not have to visit them.
            gc.collect()
            gc.freeze()
            try:
                await server.listen(map(as_socket, sockets))
                addresses = announced(settings, sockets)
                with addresses_told(state_dir, addresses):
                    announce(addresses)
                    notify_ready()
                    await stop.wait()
            finally:
                await server.close()
            return manager.running()


def _app(manager: ProcessManager, projects: Projects, settings: Settings, token: str) -> web.Application:
    return make_app(
        manager,
        projects,
        token=token,
        version=__version__,
        allowed_hosts=[*(address.rpartition(":")[0] for address in settings.listen), *settings.allowed_hosts],
        metrics_tags=settings.metrics_tags,
        logs_requests=settings.access_log,
        has_files=settings.files,
    )
