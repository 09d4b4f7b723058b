"""The codec of compressed rows."""

import zstandard

from outlast.model.errors import StorageError

ZSTD = "zstd"
LEVEL = 6
"""Compression level. Chosen by measuring logs: docs/decisions/0012-compaction-and-compression.md."""


def compress(data: bytes) -> bytes:
    """Return `data` as a zstd frame that holds its uncompressed size."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def decompress(data: bytes, codec: str | None) -> bytes:
    """Return the output of a row, given its columns `data` and `codec`.

    Raises:
        StorageError: the codec is unknown, or the data are damaged.
    """
    if codec is None:
        return data
    if codec != ZSTD:
        raise StorageError(f"stored output has an unknown compression {codec!r}: upgrade outlast")
    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise StorageError(f"compressed output is damaged: {error}") from error
