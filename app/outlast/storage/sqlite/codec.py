"""The codec of compressed rows: the format of zlib, which `sqlar_uncompress` of the `sqlite3` command reads."""

import contextlib
import importlib
import zlib
from types import ModuleType

from outlast.model.errors import StorageError

fast_zlib: ModuleType = zlib
"""ISA-L's zlib, or Python's on a machine for which there is no wheel of `isal`."""

with contextlib.suppress(ImportError):
    fast_zlib = importlib.import_module("isal.isal_zlib")

ZLIB = "zlib"
LEVEL = 6
"""Compression level of old rows. Chosen by measuring logs: docs/decisions/0026-output-compressed-with-zlib.md."""

MAX_RATIO = 0.8
"""Maximum size of compressed data, as a part of the bytes before. What gains less is stored as it is."""

FLOOD_BYTES = 32 * 1024
"""Size above which a row is compressed when it is stored. Most such rows are too large to be merged later."""

_SAMPLE_BYTES = 4096

_ZSTD = "zstd"  # what stores were compressed with before 0.1.0


def compress(data: bytes) -> bytes:
    """Return `data` in zlib's format, as small as is worth the time of a background task."""
    return zlib.compress(data, LEVEL)


def compress_flood(data: bytes) -> bytes | None:
    """Return output that is being stored compressed, or None if it is small, or too little is saved.

    The first bytes are tried alone: output that is compressed already costs next to nothing.
    """
    if len(data) <= FLOOD_BYTES or not _saves(fast_zlib.compress(data[:_SAMPLE_BYTES], 1), _SAMPLE_BYTES):
        return None
    compressed: bytes = fast_zlib.compress(data, 1)
    return compressed if _saves(compressed, len(data)) else None


def _saves(compressed: bytes, raw_bytes: int) -> bool:
    return len(compressed) <= raw_bytes * MAX_RATIO


def decompress(data: bytes, codec: str | None) -> bytes:
    """Return the output of a row, given its columns `data` and `codec`.

    Raises:
        StorageError: the codec is unknown, or the data are damaged.
    """
    if codec is None:
        return data
    if codec == _ZSTD:
        return _decompress_zstd(data)
    if codec != ZLIB:
        raise StorageError(f"stored output has an unknown compression {codec!r}: upgrade outlast")
    try:
        output: bytes = fast_zlib.decompress(data)
    except (zlib.error, fast_zlib.error) as error:
        raise StorageError(f"compressed output is damaged: {error}") from error
    return output


def _decompress_zstd(data: bytes) -> bytes:
    import zstandard  # noqa: PLC0415 - hardly any store has such a row

    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise StorageError(f"compressed output is damaged: {error}") from error
