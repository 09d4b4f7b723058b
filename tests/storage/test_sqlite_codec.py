"""The codec of compressed rows: the format is that of zlib, whatever writes it."""

import importlib
import sys
import zlib
from collections.abc import Iterator

import pytest

from outlast.model.errors import StorageError
from outlast.storage.sqlite import codec

_LOG = b"".join(b"2024-03-09 16:00:%02d GET /a/path/%d 200\n" % (n % 60, n) for n in range(1000))


@pytest.fixture(params=["with ISA-L", "without ISA-L"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "without ISA-L":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    importlib.reload(codec)
    yield
    monkeypatch.undo()
    importlib.reload(codec)


@pytest.mark.usefixtures("either")
def test_output_is_compressed_in_the_format_of_zlib() -> None:
    compressed = codec.compress(_LOG)
    assert len(compressed) < len(_LOG) / 4
    assert zlib.decompress(compressed) == codec.decompress(compressed, codec.ZLIB) == _LOG


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("damaged", [b"", b"\0\x11", zlib.compress(_LOG)[:-5], zlib.compress(_LOG)[:-1] + b"x"])
def test_damaged_output_is_an_error(damaged: bytes) -> None:
    with pytest.raises(StorageError, match="damaged"):
        codec.decompress(damaged, codec.ZLIB)
