"""Handlers of files of the machine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from http import HTTPStatus
from io import FileIO
from typing import TypeVar, TypeVarTuple

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response
from outlast.api.streaming.response import send_or_fail
from outlast.files.reading import list_folder, open_file, read_piece
from outlast.files.writing import NewFile, delete_file
from outlast.model.errors import Forbidden, InvalidRequest, NotFound

_RAW = "application/octet-stream"
_PIECE_BYTES = 1 << 20
# A file may be a page of somebody's, which must not act as one of this server's.
_HEADERS: Mapping[str, str] = {hdrs.CONTENT_DISPOSITION: "attachment"}

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def read(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/files."""
    path = given.query["path"]
    file, size = await _on_thread(request, open_file, path)
    with file:
        return await send_or_fail(request, _RAW, _pieces(request, path, file, size), size, _HEADERS)


async def _pieces(request: web.Request, path: str, file: FileIO, size: int | None) -> AsyncGenerator[bytes, None]:
    """Yield the contents; if `size` is known, as far as they were there at the beginning.

    Raises:
        NotFound: the file has become shorter meanwhile.
    """
    left = size
    while left != 0:
        most = _PIECE_BYTES if left is None else min(left, _PIECE_BYTES)
        piece = await _on_thread(request, read_piece, file, most, path)
        if not piece:
            if left is not None:
                raise NotFound(f"{path} became shorter while it was read")
            return
        if left is not None:
            left -= len(piece)
        yield piece


async def write(request: web.Request, given: RequestInput) -> web.Response:
    """PUT /api/v1/files: the body becomes the file once all of it has come.

    Raises:
        InvalidRequest: the request has no body, not even an empty one.
    """
    if hdrs.CONTENT_LENGTH not in request.headers and hdrs.TRANSFER_ENCODING not in request.headers:
        raise InvalidRequest("the body is missing: send the contents of the file (Content-Length: 0 for an empty one)")
    new = NewFile(given.query["path"])
    try:
        await _on_thread(request, new.begin)
        parts: list[bytes] = []
        size = 0
        async for part in request.content.iter_any():
            parts.append(part)
            size += len(part)
            if size >= _PIECE_BYTES:
                piece, parts, size = b"".join(parts), [], 0
                await _on_thread(request, new.write, piece)
        await _on_thread(request, new.write, b"".join(parts))
        await _on_thread(request, new.commit)
    finally:
        await _on_thread(request, new.discard)
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def delete(request: web.Request, given: RequestInput) -> web.Response:
    """DELETE /api/v1/files."""
    await _on_thread(request, delete_file, given.query["path"])
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def list_entries(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/files/list."""
    return await _on_thread(request, _listing, given.query["path"])


def _listing(path: str) -> web.Response:
    entries = [
        {"name": one.name, "is_dir": one.is_dir, "size": one.size, "modified_at": one.modified_at_ms}
        for one in list_folder(path)
    ]
    return json_response({"path": path, "entries": entries})


async def _on_thread(request: web.Request, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Return what `work` returns, run on a thread. It has ended in any case then, also if this task is cancelled.

    Raises:
        Forbidden: the setting `files` is off.
    """
    threads = request.app[app_keys.FILE_THREADS]
    if threads is None:
        raise Forbidden("this daemon gives no access to files: its setting `files` is off")
    future = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
