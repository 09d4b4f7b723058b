"""The file calls of the official Python client."""

import os
from pathlib import Path

import pytest
from tensorlake.sandbox import RemoteAPIError, Sandbox

from .blocking import call

CONTENTS = os.urandom(3 << 20)


async def test_a_file_is_written_read_and_deleted(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    await call(sandbox.write_file, str(path), CONTENTS)
    assert path.read_bytes() == CONTENTS
    assert (await call(sandbox.read_file, str(path))).value == CONTENTS
    await call(sandbox.delete_file, str(path))
    assert not path.exists()


async def test_a_file_is_uploaded(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(CONTENTS)
    await call(sandbox.upload_file, str(tmp_path / "local"), str(tmp_path / "remote"))
    assert (tmp_path / "remote").read_bytes() == CONTENTS


async def test_a_folder_is_listed(sandbox: Sandbox, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    (place / "file").write_text("four")
    found = await call(sandbox.list_directory, str(place))
    assert found.path == str(place)
    assert [(one.name, one.is_dir, one.size) for one in found.entries] == [("file", False, 4), ("folder", True, None)]
    changed = found.entries[0].modified_at
    assert changed is not None
    assert abs(changed.timestamp() - (place / "file").stat().st_mtime) < 1


async def test_what_is_missing_is_an_error(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(RemoteAPIError) as caught:
        await call(sandbox.read_file, str(tmp_path / "missing"))
    assert caught.value.status_code == 404
