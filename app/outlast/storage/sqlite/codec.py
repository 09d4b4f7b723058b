"""How sealed output is compressed."""

import zstandard

from outlast.model.errors import StorageError

ZSTD = "zstd"
LEVEL = 6
"""Chosen by measuring logs: docs/decisions/0012-merging-and-sealing.md."""


def seal(data: bytes) -> bytes:
    """Compress. The result holds the size of what went in."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def unseal(data: bytes, codec: str | None) -> bytes:
    """Return what was written, of a row's `data` and `codec`.

    Raises:
        StorageError: it can't be read.
    """
    if codec is None:
        return data
    if codec != ZSTD:
        raise StorageError(f"output is sealed in a way that this program does not know ({codec!r}): upgrade outlast")
    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise StorageError(f"sealed output is damaged: {error}") from error
