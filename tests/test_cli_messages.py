"""The log: each record is one line, whatever others wrote into it."""

import json
import logging
import os
import re
import sys

import pytest

from outlast.cli import log as daemon_log


def make_log(formatter: logging.Formatter) -> logging.Logger:
    logger = logging.Logger("test")  # noqa: LOG001 - it ends with the test
    handler = daemon_log._Handler()
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    return logger


@pytest.fixture
def log() -> logging.Logger:
    return make_log(daemon_log._Formatter("%(levelname)s %(message)s"))


@pytest.fixture
def json_log() -> logging.Logger:
    return make_log(daemon_log._JsonFormatter())


def test_no_text_of_others_begins_a_line_of_the_log(log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    log.warning("a folder: %s", "x\nERROR forged\x1b[2J")
    log.error("failed", exc_info=ValueError("y\nERROR forged\x1b[2J"))
    first, second, *traceback = capfd.readouterr().err.splitlines()
    assert first == "WARNING a folder: x\\nERROR forged\\x1b[2J"
    assert second == "ERROR failed"
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
    assert "  ERROR forged\\x1b[2J" in traceback


def test_a_record_is_one_json_object_in_one_line(json_log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    text = "x\nERROR forged\x1b[2J \u202e \udcff"
    json_log.warning("a folder: %s", text)
    json_log.error("failed", exc_info=ValueError(text), extra={"fields": {"status": 200}})
    lines = capfd.readouterr().err.splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    first, second = map(json.loads, lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "warning", "logger": "test", "message": f"a folder: {text}"}
    assert second["status"] == 200
    assert text.splitlines()[0] in second["traceback"]


def lose_two(log: logging.Logger) -> None:
    """Log two messages that standard error does not take, and two that it does."""
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


def test_a_json_log_says_in_json_what_is_missing(json_log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    lose_two(json_log)
    found = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert found == ["2 messages are missing here: standard error did not take them", "three", "four"]


def test_a_log_that_nobody_could_read_says_what_is_missing(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    lose_two(log)
    assert capfd.readouterr().err.splitlines() == [
        "2 messages are missing here: standard error did not take them",
        "ERROR three",
        "ERROR four",
    ]
