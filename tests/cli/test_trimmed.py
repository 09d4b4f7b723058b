"""Commands that read output which limits have deleted say so, beside the exact bytes of what is left."""

from typing import Any

import pytest

from outlast.model.output import Stream
from outlast.model.retention import Rule
from outlast.storage import Change, TrimOutput, storage_from_url
from outlast.testing.storage.samples import Output
from tests.cli.commands import outlast
from tests.support.daemon import Daemon
from tests.support.gaps import leave

DELETED = "a limit has deleted 4 lines (8B) of the process in all"


@pytest.fixture
async def trimmed(daemon: Daemon) -> dict[str, Any]:
    """A process that has ended, and printed 1, 2, 3 and 4, which are deleted, then `last`."""
    process = await daemon.ended(await daemon.sh("seq 4"))

    def print_and_trim(output: Output) -> list[Change]:
        last = output.chunk(b"last\n", Stream.STDERR, ts_ms=process["ended_at"] + 10_000)
        return [last, TrimOutput(process["handle"], 4, 0, Rule.OUTPUT_S)]

    await leave(daemon, process, print_and_trim)
    return process


@pytest.mark.parametrize("words", [[], ["-f", "-n", "all"], ["-f", "-n", "9"]], ids=str)
async def test_exact_logs_say_it_beside_the_bytes(daemon: Daemon, trimmed: dict[str, Any], words: list[str]) -> None:
    said = await outlast(daemon, "logs", *words, trimmed["id"])
    assert (said.out, DELETED in said.err) == (b"last\n", True), said


async def test_logs_that_begin_behind_it_say_nothing(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    for words in (["-n", "1"], ["-f", "-n", "1"]):
        said = await outlast(daemon, "logs", *words, trimmed["id"])
        assert (said.out, said.err) == (b"last\n", "")


async def test_logs_with_times_say_it_between_the_lines(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    said = await outlast(daemon, "logs", "-t", trimmed["id"])
    first, last = said.text.splitlines()
    assert f"── 4 lines are missing here: {DELETED} ──" in first
    assert last.endswith(" last")


@pytest.mark.usefixtures("trimmed")
async def test_a_search_says_that_lines_may_be_missing(daemon: Daemon) -> None:
    said = await outlast(daemon, "search", "last")
    assert "│ last" in said.text.replace("┃", "│")
    assert "output was deleted by a limit" in said.err


@pytest.mark.parametrize("words", [[], ["-o", "json"]], ids=str)
async def test_events_that_were_deleted_are_said(daemon: Daemon, words: list[str]) -> None:
    ids = [(await daemon.ended(await daemon.run("true")))["id"] for _ in range(2)]
    await daemon.stop()
    storage = storage_from_url(f"sqlite:///{daemon.state_dir}/outlast.db")
    await storage.open()
    assert await storage.trim_events(before_ms=1 << 50, limit=2) == 2
    await storage.close()
    await daemon.start()
    said = await outlast(daemon, "events", *words)
    assert "events 1 to 2 were deleted: they were too old" in said.err
    assert (ids[0] in said.text, "exited" in said.text) == (False, True)


async def test_a_run_says_what_is_kept_of_it(daemon: Daemon) -> None:
    for word in ("always", "64K"):
        assert (await outlast(daemon, "run", "--keep", word, "true")).code == 0
    assert daemon.sql("SELECT bytes, always FROM keep ORDER BY handle") == [(None, 1), (65536, 0)]
    said = await outlast(daemon, "run", "--keep", "much", "true")
    assert (said.code, "'much' is not a size" in said.err) == (2, True)
