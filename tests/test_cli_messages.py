"""The log: each record is one line, whatever others wrote into it."""

import logging
import os
import sys

import pytest

from outlast.cli import log as messages


@pytest.fixture
def log() -> logging.Logger:
    logger = logging.Logger("test")  # noqa: LOG001 - it ends with the test
    handler = messages._Handler()
    handler.setFormatter(messages._Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger


def test_no_text_of_others_begins_a_line_of_the_log(log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    log.warning("a folder: %s", "x\nERROR forged\x1b[2J")
    log.error("failed", exc_info=ValueError("y\nERROR forged\x1b[2J"))
    first, second, *traceback = capfd.readouterr().err.splitlines()
    assert first == "WARNING a folder: x\\nERROR forged\\x1b[2J"
    assert second == "ERROR failed"
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
    assert "  ERROR forged\\x1b[2J" in traceback


def test_a_log_that_nobody_could_read_says_what_is_missing(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    stderr = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    log.error("one")
    log.error("two")
    os.dup2(stderr, 2)
    os.close(full)
    os.close(stderr)
    log.error("three")
    log.error("four")
    sys.stderr.flush()
    assert capfd.readouterr().err.splitlines() == [
        "2 messages are missing here: standard error did not take them",
        "ERROR three",
        "ERROR four",
    ]
