"""SQL over HTTP and as a command: it reads everything, and can do nothing else."""

import asyncio
import base64
import json
import os
import subprocess
from typing import Any

import pytest

from outlast.model.sql import MAX_ANSWER_BYTES
from outlast.wire.contract import PROCESS_ID_VARIABLE
from tests.support.daemon import OUTLAST, Daemon, outlast
from tests.support.waiting import eventually

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


async def sql(daemon: Daemon, query: str, status: int = 200, **fields: Any) -> Any:
    return await daemon.call("POST", "/sql", status, {"query": query, **fields})


@pytest.fixture
async def process(daemon: Daemon) -> dict[str, Any]:
    """A process that has ended, with two lines."""
    process = await daemon.sh("echo one; echo two")
    await daemon.ended(process)
    return process


async def command(daemon: Daemon, *words: str) -> tuple[int, str]:
    """Ask the store of a daemon by `outlast sql`."""
    return await outlast("sql", "--state-dir", str(daemon.state_dir), *words)


async def test_a_query_takes_parameters_by_place(daemon: Daemon, process: dict[str, Any]) -> None:
    answer = await sql(daemon, "SELECT seq, line FROM output_lines WHERE process_id = ?", parameters=[process["id"]])
    assert answer == {"columns": ["seq", "line"], "rows": [[1, "one"], [2, "two"]], "truncated": False}


async def test_a_query_takes_parameters_by_name(daemon: Daemon) -> None:
    answer = await sql(daemon, "SELECT :n + 1 AS next", parameters={"n": 41})
    assert answer == {"columns": ["next"], "rows": [[42]], "truncated": False}


async def test_values_that_json_does_not_have(daemon: Daemon) -> None:
    values = "SELECT x'00ff', 9007199254740993, 9e999, 0.5, NULL, 'é\u2028\"', CAST(x'ff' AS TEXT)"
    (row,) = (await sql(daemon, values))["rows"]
    blob = {"base64": base64.b64encode(b"\0\xff").decode()}
    assert row == [blob, "9007199254740993", "inf", 0.5, None, 'é\u2028"', "\ufffd"]


async def test_rows_are_limited(daemon: Daemon) -> None:
    thousands = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000) SELECT x FROM n"
    for limit, truncated in ((10, True), (5000, False), (None, True)):
        answer = await sql(daemon, thousands, **({"limit": limit} if limit else {}))
        assert (len(answer["rows"]), answer["truncated"]) == (limit or 1000, truncated)


QUERY = "SELECT seq, line AS text FROM output_lines ORDER BY seq"


@pytest.mark.usefixtures("process")
async def test_the_command_queries_beside_a_daemon(daemon: Daemon) -> None:
    assert await command(daemon, QUERY) == (0, "seq    text\n-----  ------\n1      one\n2      two\n")


async def test_the_command_queries_without_a_daemon(daemon: Daemon, process: dict[str, Any]) -> None:
    await daemon.stop()
    assert await command(daemon, "--format", "csv", QUERY) == (0, "seq,text\n1,one\n2,two\n")
    code, text = await command(daemon, "--format=json", "--limit=1", QUERY)
    assert (code, text.splitlines()[0]) == (0, '{"seq": 1, "text": "one"}')
    code, text = await command(daemon, "DELETE FROM process")
    assert code == 1
    assert text.startswith("Error: query cannot be answered: ")
    await daemon.start()
    assert (await daemon.get(process))["exit_code"] == 0


async def test_a_json_object_cannot_hold_two_columns_of_one_name(daemon: Daemon) -> None:
    twice = "SELECT 1 AS a, 2 AS a"
    assert await command(daemon, "--format=csv", twice) == (0, "a,a\n1,2\n")
    code, text = await command(daemon, "--format=json", twice)
    assert code == 1
    assert text.startswith("Error: two columns are named 'a', but a JSON object can hold only one: rename one with AS")


async def test_the_encoded_answer_has_a_limited_size(daemon: Daemon) -> None:
    """Base64 and escapes count, too."""
    rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT {} FROM n"
    for value, count in (
        ("printf('%.*c', 5000000, 'x')", 3),
        ("zeroblob(4000000)", 3),
        ("replace(hex(zeroblob(600000)), '0', char(1))", 2),
    ):
        query = rows.format(value)
        async with daemon.session.post(f"{daemon.url}/api/v1/sql", json={"query": query}) as response:
            body = await response.read()
        answer = json.loads(body)
        assert (len(answer["rows"]), answer["truncated"]) == (count, True), value
        assert len(body) <= MAX_ANSWER_BYTES


REFUSED = [
    "DELETE FROM process",
    "UPDATE run SET status = 'running'",
    "INSERT INTO purged VALUES (1)",
    "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x (y)",
    "DROP VIEW processes",
    "ATTACH '/tmp/other.db' AS other",
    "VACUUM INTO '/tmp/copy.db'",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = OFF",
    "SELECT * FROM pragma_journal_mode",
    "BEGIN IMMEDIATE",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT data FROM sqlite_dbpage",
    "SELECT 1; DELETE FROM process",
    "SELECT zeroblob(20000000)",
    "SELECT no_such_column FROM process",
    "SELECT ?",
    "-- nothing",
    ";",
    "SELEC 1",
]


async def test_a_query_that_changes_something_is_refused(daemon: Daemon) -> None:
    for query in REFUSED:
        answer = await sql(daemon, query, 400)
        assert answer["code"] == "INVALID_REQUEST"
        assert answer["error"].startswith("query cannot be answered: "), query


async def test_an_endless_query_is_ended_at_its_timeout(daemon: Daemon) -> None:
    answer = await sql(daemon, ENDLESS, 400, timeout=0.2)
    assert answer["error"].startswith("query took longer than 0.2 s")

    async def status(query: str) -> int:
        async with daemon.session.post(f"{daemon.url}/api/v1/sql", json={"query": query, "timeout": 60}) as response:
            assert response.status != 503 or "Retry-After" in response.headers
            return response.status

    async def occupy() -> None:
        while await status(ENDLESS) == 503:  # the place is taken by the query that asks whether it is
            pass

    endless = [asyncio.create_task(occupy()) for _ in range(2)]

    async def is_refused() -> bool:
        return await status("SELECT 1") == 503

    await eventually(is_refused)
    process = await daemon.sh("echo goes on")
    await daemon.ended(process)
    assert await daemon.lines(process) == ["goes on"]
    for task in endless:
        task.cancel()
    await asyncio.gather(*endless, return_exceptions=True)

    async def is_answered() -> bool:
        return await status("SELECT 1") == 200

    await eventually(is_answered)  # who hangs up has the query ended


async def test_the_environment_is_not_shown(daemon: Daemon) -> None:
    """No query shows values of environment variables: they are not stored, or encrypted for a managed process."""
    process = await daemon.run("true", env={"SECRET": "s3cr3t"})
    await daemon.ended(process)
    await daemon.sh("exec sleep 1000", name="holder", env={"HELD": "s3cr3t"})
    ((encrypted,),) = daemon.sql("SELECT encrypted_env FROM process WHERE encrypted_env IS NOT NULL")
    assert "s3cr3t" not in encrypted
    tables = (await sql(daemon, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"))["rows"]
    assert ["process"] in tables
    shown = {table: str(await sql(daemon, f'SELECT * FROM "{table}"')) for (table,) in tables}  # noqa: S608
    assert "HELD" in shown["process"]
    for question in (
        "SELECT encrypted_env, hex(encrypted_env), json_array(encrypted_env), encrypted_env || '' FROM process",
        "SELECT group_concat(encrypted_env), json_group_array(encrypted_env) FROM (SELECT * FROM process)",
        "WITH p(x) AS (SELECT encrypted_env FROM process) SELECT max(x) FROM p",
    ):
        shown[question] = str(await sql(daemon, question))
    for question, answer in shown.items():
        for secret in ("s3cr3t", encrypted, encrypted.encode().hex().upper(), PROCESS_ID_VARIABLE):
            assert secret not in answer, question
    # Nor can it be guessed by what meets a condition.
    assert (await sql(daemon, "SELECT id FROM process WHERE encrypted_env > ''"))["rows"] == []


async def test_malformed_queries_are_refused(daemon: Daemon) -> None:
    for body, phrase in (
        ({}, "query is required"),
        ({"query": ""}, "query must be 1 to"),
        ({"query": "SELECT 1\0"}, "query must not contain a NUL"),
        ({"query": "SELECT 1", "limit": 0}, "limit must be an integer from 1 to 10000"),
        ({"query": "SELECT 1", "timeout": 61}, "timeout must be a number of seconds from 0.001 to 60"),
        ({"query": "SELECT ?", "parameters": "x"}, "parameters must be an array, or an object"),
        ({"query": "SELECT ?", "parameters": [[1]]}, "parameters must contain strings, numbers"),
        ({"query": "SELECT ?", "parameters": [2**63]}, "parameters must not contain an integer"),
        ({"query": "SELECT 1", "write": True}, "unknown field: write"),
    ):
        answer = await daemon.call("POST", "/sql", 400, body)
        assert phrase in answer["error"], body


HOSTILE = "printf 'a\\033]0;owned\\007b\\033[2Jc\\xc2\\x9bd\\xe2\\x80\\xaee\\tf\\177\\n'"
QUIET = r"a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\tf\x7f"
LINE = "SELECT line FROM output_lines"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
async def test_what_a_process_printed_does_not_act_on_a_terminal(daemon: Daemon, form: str) -> None:
    await daemon.ended(await daemon.run("bash", "-c", HOSTILE))
    ours, terminal = os.openpty()
    words = ["sql", "--state-dir", str(daemon.state_dir), "--format", form, LINE]
    assert await asyncio.to_thread(subprocess.call, [*OUTLAST, *words], stdout=terminal) == 0
    shown = os.read(ours, 4096).decode().replace("\r\n", "\n")
    os.close(ours)
    os.close(terminal)
    assert all(character.isprintable() for character in shown.replace("\n", ""))
    if form == "json":
        assert json.loads(shown) == {"line": "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\tf\x7f"}
    else:
        assert QUIET in shown


@pytest.mark.parametrize(("form", "is_raw"), [("table", False), ("csv", True), ("json", False)])
async def test_programs_get_csv_as_it_is_stored(daemon: Daemon, form: str, is_raw: bool) -> None:
    await daemon.ended(await daemon.run("bash", "-c", HOSTILE))
    _, text = await command(daemon, "--format", form, LINE)
    assert ("\x1b]0;owned" in text) is is_raw
