"""`runs`, `stats`, `open`, and times in `logs`."""

import json
import re
from urllib.parse import parse_qs, urlsplit

from tests.cli.commands import outlast, reads, started
from tests.support.daemon import Daemon
from tests.support.waiting import eventually


async def test_runs_are_listed(daemon: Daemon) -> None:
    await daemon.sh("exit 3", name="job", restart={"policy": "always", "max_restarts": 1, "delay_ms": 0})
    await eventually(lambda: daemon.sql("SELECT status, restart_count FROM managed_processes") == [("stopped", 1)])
    table = (await outlast(daemon, "runs", "job")).text.splitlines()
    assert [line.split()[0] for line in table] == ["RUN", "2", "1"]
    assert all("exited 3" in line for line in table[1:])
    (only,) = json.loads((await outlast(daemon, "runs", "job", "-n", "1", "--json")).text)
    assert (only["run"], only["exit_code"]) == (2, 3)
    assert (await outlast(daemon, "runs", "nobody")).code == 1


async def test_stats_tell_of_each_process(daemon: Daemon) -> None:
    await daemon.sh("exec sleep 600", name="web")
    gone = await daemon.sh("exit 0")
    await daemon.ended(gone)
    table = (await outlast(daemon, "stats", "web", gone["id"])).text.splitlines()
    assert table[0].split()[:4] == ["NAME", "RUN", "CPU", "MEM"]
    assert re.match(r"web +1 +\d+\.\d% +[\d.]+\w? +[\d.]+\w? +1 ", table[1])
    assert re.match(rf"@{gone['handle']} +1 +- +-", table[2])
    (record,) = json.loads((await outlast(daemon, "stats", "web", "--json")).text)
    assert record["current"]["processes"] == 1


async def test_open_prints_an_address_that_logs_in_once(daemon: Daemon) -> None:
    process = await daemon.sh("exec sleep 600", name="web")
    address = (await outlast(daemon, "open", "web", "--print")).text.strip()
    assert address.startswith(f"{daemon.url}/login?")
    assert parse_qs(urlsplit(address).query)["next"] == [f"/?p=@{process['handle']}"]
    for status in (303, 401):
        async with daemon.session.get(address, headers={"Authorization": ""}, allow_redirects=False) as response:
            assert response.status == status
    assert (await outlast(daemon, "open", "-H", "unix:/no/socket")).code == 1


async def test_times_since_the_line_before(daemon: Daemon) -> None:
    process = await daemon.sh("echo a; sleep 0.3; echo b")
    await daemon.ended(process)
    first, second = (await outlast(daemon, "logs", "--delta", process["id"])).text.splitlines()
    assert re.fullmatch(r" +\+0\.000 a", first)
    assert 0.2 < float(second.split()[0]) < 20


async def test_doctor_finds_nothing_wrong(daemon: Daemon) -> None:
    said = await outlast(daemon, "doctor")
    assert (said.code, said.text.count("ok "), "!!" in said.text) == (0, 5, False), said


async def test_doctor_says_what_is_wrong(daemon: Daemon) -> None:
    wrong = await outlast(daemon, "doctor", OUTLAST_TOKEN="wrong")
    assert (wrong.code, "looked for in OUTLAST_TOKEN" in wrong.text) == (1, True), wrong
    nobody = await outlast(daemon, "doctor", "-H", "http://127.0.0.1:1")
    assert (nobody.code, nobody.text.count("no daemon answers at http://127.0.0.1:1")) == (1, 1), nobody
    assert "`outlast serve`" in nobody.text


async def test_followed_events_stand_in_columns(daemon: Daemon) -> None:
    await daemon.ended(await daemon.sh("exit 3"))
    await daemon.sh("exec sleep 600", name="a-process-with-a-longer-name")
    async with started(daemon, "events", "-f") as process:
        lines = await reads(process, 3)
    assert [line.split()[2] for line in lines] == ["started", "exited", "started"]
    assert len({line.index(pid) + len(pid) for line in lines[:2] for pid in [line.split()[4]]}) == 1
    assert lines[1].endswith("1  exited 3")


async def test_a_search_names_the_expression_that_is_none(daemon: Daemon) -> None:
    said = await outlast(daemon, "search", "(")
    assert (said.code, "'(' is not an expression of RE2" in said.err) == (2, True), said
    assert (await outlast(daemon, "search", "-F", "(")).code == 1


async def test_an_inspection_has_a_line_for_each_field(daemon: Daemon) -> None:
    process = await daemon.sh("exec sleep 600 # \u202e")
    text = (await outlast(daemon, "inspect", process["id"])).text
    assert '\n  "command": "sh",\n' in text
    assert '"exec sleep 600 # \\u202e"' in text


async def test_forms_are_named_alike(daemon: Daemon) -> None:
    """`-o` names the form of `du`, as of `ps`; `--format` still does."""
    process = await daemon.sh("echo kept")
    await daemon.ended(process)
    said = [await outlast(daemon, "du", flag, "json") for flag in ("-o", "--format")]
    assert said[0] == said[1]
    assert process["id"] in json.dumps(json.loads(said[0].text))
