"""Messages to people: nothing in them acts on a terminal, and nothing waits for their reader."""

import contextlib
import os
from pathlib import Path

import pytest

from outlast.linux.messages import escape, write_message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 日本, 🙂, a\\b", "plain, é, 日本, 🙂, a\\b"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31m\x1b]52;c;QQ==\x07", "\\x1b[31m\\x1b]52;c;QQ==\\x07"),
        ("\x00\x7f\x9b\x85", "\\x00\\x7f\\x9b\\x85"),
        ("\u2028\u202e\u2066\u200f\ufeff", "\\u2028\\u202e\\u2066\\u200f\\ufeff"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_characters_that_act_are_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_a_message_is_written_whole(tmp_path: Path) -> None:
    text = "é" * 100_000
    with (tmp_path / "file").open("wb") as file:
        assert write_message(file.fileno(), text)
    assert (tmp_path / "file").read_text() == text


def test_a_message_does_not_wait_for_its_reader() -> None:
    reader, writer = os.pipe()
    assert not write_message(writer, "x" * 1_000_000)
    os.set_blocking(reader, False)
    with contextlib.suppress(BlockingIOError):
        while os.read(reader, 65536):
            pass
    assert write_message(writer, "there is room again")
    os.close(reader)
    assert not write_message(writer, "nobody reads")
    os.close(writer)
    assert not write_message(writer, "closed")
