"""A state folder's identity: kept when it is renamed, another one for a copy."""

import shutil
from pathlib import Path

import pytest

from outlast.wire.identity import IDENTITY_NAME, is_mark, load_identity, make_mark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_an_identity_is_made_once(folder: Path) -> None:
    first = load_identity(folder)
    before = (folder / IDENTITY_NAME).stat()
    assert load_identity(folder) == first
    after = (folder / IDENTITY_NAME).stat()  # its time of access changes
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert before.st_mode & 0o777 == 0o600


def test_a_renamed_folder_keeps_its_identity(folder: Path) -> None:
    first = load_identity(folder)
    assert load_identity(folder.rename(folder.with_name("second"))) == first
    assert load_identity(folder.with_name("second").rename(folder.with_name("third"))) == first


def test_a_restored_folder_keeps_its_identity(folder: Path) -> None:
    first = load_identity(folder)
    shutil.copytree(folder, folder.with_name("backup"))
    shutil.rmtree(folder)
    folder.with_name("in between").mkdir()  # so that the next folder gets another inode
    shutil.copytree(folder.with_name("backup"), folder)
    assert load_identity(folder).id == first.id


def test_a_copy_has_an_identity_of_its_own(folder: Path) -> None:
    first = load_identity(folder)
    copy = shutil.copytree(folder, folder.with_name("copy"))
    assert load_identity(copy).id != first.id
    assert load_identity(copy) == load_identity(copy)
    assert load_identity(folder) == first


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1, "path": "", "folder": ""}', "\xff"])
def test_a_file_that_makes_no_sense_is_replaced(folder: Path, text: str) -> None:
    (folder / IDENTITY_NAME).write_bytes(text.encode("latin-1"))
    first = load_identity(folder)
    assert len(first.id) == 32
    assert load_identity(folder) == first


def test_marks_differ_by_folder_and_by_run(folder: Path) -> None:
    copy = folder.with_name("copy")
    copy.mkdir()
    runs = ["01M84WDSB2SN5EQ1GN0C78HJ2W", "01M84WDSB2SN5EQ1GN0C78HJ2W.2", "01M84WDSB2SN5EQ1GN0C78HJ2X"]
    marks = {make_mark(load_identity(where).secret, run) for where in (folder, copy) for run in runs}
    assert len(marks) == 6
    assert all(is_mark(mark) and mark < 1 << 63 for mark in marks)
    assert not any(is_mark(limit) for limit in (0, 1024, (1 << 62) - 1, 1 << 63, (1 << 64) - 1))
