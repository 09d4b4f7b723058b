"""The blocking client behind the calls of the other one, so that one test is for both."""

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any, Self, cast

from outlast import AsyncOutlast, Outlast
from outlast.client import Process, Terminal
from tests.support.daemon import Daemon

_END = object()


class Threaded:
    """A blocking client or process. Its calls run in threads, and its streams give one item for each `anext`."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if inspect.isgeneratorfunction(found):
            return functools.partial(_stream, found)
        return functools.partial(_call, found) if callable(found) else found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _in_thread(self._target.close)


def _in_thread(call: Any, *args: Any, **options: Any) -> asyncio.Future[Any]:
    """Call in a thread that nobody waits for at the end of the tests, unlike those of an executor."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = call(*args, **options)
        except BaseException as exc:  # noqa: BLE001 - the caller's
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _wrap(result: Any) -> Any:
    return Threaded(result) if isinstance(result, Process | Terminal) else result


async def _call(call: Any, *args: Any, **options: Any) -> Any:
    return _wrap(await _in_thread(call, *args, **options))


async def _stream(call: Any, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
    items: Generator[Any, None, None] = call(*args, **options)
    try:
        while (item := await _in_thread(next, items, _END)) is not _END:
            yield _wrap(item)
    finally:
        await _in_thread(items.close)


def connect(form: str, daemon: Daemon, **options: Any) -> AsyncOutlast:
    """Return a client of a form. The blocking one runs in threads."""
    if form == "async":
        return AsyncOutlast(daemon.url, daemon.token, **options)
    return cast("AsyncOutlast", Threaded(Outlast(daemon.url, daemon.token, **options)))
