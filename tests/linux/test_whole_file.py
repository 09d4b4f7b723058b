import os
import stat
from pathlib import Path

import pytest

from outlast.linux.whole_file import replace_file


def test_a_file_has_the_new_contents_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"first", b"second, which is longer"):
        replace_file(path, data)
        assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_has_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_text("a part of a much longer file")
    replace_file(tmp_path / "file", b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"new")]


def test_a_failure_keeps_the_old_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(_: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no room"):
        replace_file(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]
    replace_file(path, b"new", is_synced=False)
    assert path.read_bytes() == b"new"
