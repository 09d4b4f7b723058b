"""`logs`: what is shown of stored and live output, exact bytes, and follows over kills and restarts."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.cli.commands import outlast, reads, started
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S

LINES = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 5"


async def test_all_of_it_is_shown_and_parts_of_it_are_chosen(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh(LINES))

    async def logs(*words: str) -> set[str]:
        said = await outlast(daemon, "logs", *words, process["id"])
        assert (said.code, said.err) == (0, "")
        return set(said.text.splitlines())

    out, err = {f"out {n}" for n in (1, 2, 3)}, {f"err {n}" for n in (1, 2, 3)}
    assert await logs() == await logs("-n", "all") == await logs("--run", "last") == out | err
    assert (await logs("--out"), await logs("--err")) == (out, err)
    assert await logs("--out", "-n", "1") == {"out 3"}
    assert await logs("--since", "1h") == await logs("--until", "@9999999999") == out | err
    assert await logs("--since", "@9999999999") == await logs("--until", "1h") == set()
    assert (await outlast(daemon, "logs", "--run", "9", process["id"])).code == 2
    assert (await outlast(daemon, "logs", "--until-exit", process["id"])).code == 5
    assert (await outlast(daemon, "logs", "--until-exit", process["id"], process["id"])).code == 2


async def test_times_are_local_or_utc(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh("echo x"))
    clock = await outlast(daemon, "logs", "-t", process["id"], TZ="Asia/Kolkata")
    utc = await outlast(daemon, "logs", "-t", "--utc", process["id"], TZ="Asia/Kolkata")
    iso = await outlast(daemon, "logs", "--iso", process["id"], TZ="Asia/Kolkata")
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} x\n", clock.text)
    minutes = [int(said.text[0:2]) * 60 + int(said.text[3:5]) for said in (clock, utc)]
    assert (minutes[0] - minutes[1]) % 1440 == 330
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:30 x\n", iso.text)


async def test_a_pipe_gets_the_exact_bytes(daemon: Daemon) -> None:
    written = rb"a\377b\r\n\0\033]52;c;eA==\007\n\346\227 cut"
    process = await daemon.ended(await daemon.sh(f"printf '{written.decode()}'; sleep 0.3; printf '\\377 end'"))
    exact = b"a\xffb\r\n\0\x1b]52;c;eA==\x07\n\xe6\x97 cut\xff end"
    assert await daemon.raw(process) == exact
    for words in ([], ["--raw"], ["-f"], ["-f", "-n", "all"]):
        assert (await outlast(daemon, "logs", *words, process["id"])).out == exact, words


async def test_several_processes_have_their_names_before_each_line(daemon: Daemon) -> None:
    web = await daemon.ended(await daemon.sh("echo one; echo two >&2", name="web", restart={"policy": "never"}))
    job = await daemon.ended(
        await daemon.sh("echo three; exit 1", name="\N{CJK UNIFIED IDEOGRAPH-7F51}", restart={"policy": "never"})
    )
    said = await outlast(daemon, "logs", web["id"], job["id"])
    assert sorted(said.text.splitlines()) == ["web │ one", "web ┃ two", "\N{CJK UNIFIED IDEOGRAPH-7F51}  │ three"]
    assert (await outlast(daemon, "logs", "--no-prefix", web["id"], job["id"])).text.count("│") == 0
    followed = await outlast(daemon, "logs", "-f", web["id"], job["id"])
    assert "web ── exited 0 ──" in followed.text
    assert "\N{CJK UNIFIED IDEOGRAPH-7F51}  ── exited 1 ──" in followed.text


async def test_a_follow_begins_a_hundred_lines_before_the_end(daemon: Daemon) -> None:
    process = await daemon.ended(await daemon.sh("seq 300"))
    assert (await outlast(daemon, "logs", "-f", process["id"])).text.split() == [str(n) for n in range(201, 301)]
    assert len((await outlast(daemon, "logs", "-f", "-n", "all", process["id"])).text.split()) == 300


@pytest.mark.slow
async def test_a_follow_goes_on_over_kills_of_the_daemon_and_says_so(daemon: Daemon, tmp_path: Path) -> None:
    script = f"i=0; while [ ! -e {tmp_path}/stop ]; do i=$((i+1)); echo $i; sleep 0.005; done"
    process = await daemon.sh(script, name="web", restart={"policy": "never"})
    async with started(daemon, "logs", "-f", "-n", "all", "web") as following:
        seen = await reads(following, 10)
        for _ in range(3):
            await daemon.kill()
            await daemon.start()
            assert following.stderr is not None
            said = await asyncio.wait_for(following.stderr.readline(), DEADLINE_S)
            assert re.fullmatch(rb"outlast: the connection broke; going on at web:\d+\n", said)
            seen += await reads(following, 10)
        (tmp_path / "stop").touch()
        out, _ = await asyncio.wait_for(following.communicate(), DEADLINE_S)
    seen += out.decode().split()
    assert seen == [str(number) for number in range(1, len(seen) + 1)]
    assert seen == (await daemon.raw(process)).decode().split()
    assert following.returncode == 0


async def test_a_follow_of_a_process_that_is_purged_fails(daemon: Daemon) -> None:
    process = await daemon.sh("echo one; sleep 1000")
    async with started(daemon, "logs", "-f", process["id"]) as following:
        assert await reads(following, 1) == ["one"]
        await daemon.kill()
        following.send_signal(signal.SIGSTOP)  # it looks again when the process is gone
        await daemon.start()
        await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
        following.send_signal(signal.SIGCONT)
        out, err = await asyncio.wait_for(following.communicate(), DEADLINE_S)
    assert (following.returncode, out) == (1, b"")
    assert err.decode().startswith(f"outlast: @{process['handle']}: ")


@pytest.mark.slow
async def test_a_follow_of_several_goes_on_over_kills_in_one_order(daemon: Daemon, tmp_path: Path) -> None:
    script = f"i=0; while [ ! -e {tmp_path}/stop ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit $0"
    for number, name in enumerate(("web", "job")):
        await daemon.run("sh", "-c", script, str(number), name=name, restart={"policy": "never"})
    async with started(daemon, "logs", "-f", "-n", "all", "web", "job") as following:
        seen = await reads(following, 20)
        for _ in range(2):
            await daemon.kill()
            await daemon.start()
            assert following.stderr is not None
            said = await asyncio.wait_for(following.stderr.readline(), DEADLINE_S)
            assert re.fullmatch(rb"outlast: the connection broke; going on at web:\d+ job:\d+\n", said)
            seen += await reads(following, 20)
        (tmp_path / "stop").touch()
        out, _ = await asyncio.wait_for(following.communicate(), DEADLINE_S)
    assert following.returncode == 0
    seen += out.decode().splitlines()
    for name in ("web", "job"):
        own = [line.partition("│ ")[2] for line in seen if line.startswith(f"{name} │")]
        assert own == [str(number) for number in range(1, len(own) + 1)]
        assert own == (await daemon.raw({"id": name})).decode().split()
    ends = [line for line in seen if "──" in line]
    assert sorted(ends) == ["job ── exited 1 ──", "web ── exited 0 ──"]


async def test_what_ends_a_follow_is_refused_for_several(daemon: Daemon) -> None:
    one, two = await daemon.run("true"), await daemon.run("true")
    for words in (["--until", "10m"], ["--run", "1"]):
        said = await outlast(daemon, "logs", "-f", *words, one["id"], two["id"])
        assert (said.code, "name one" in said.err) == (2, True)


async def test_a_follow_goes_on_over_restarts_of_its_process(daemon: Daemon) -> None:
    process = await daemon.sh("echo run; sleep 1000", name="web", restart={"policy": "always"}, stop_grace_ms=0)
    async with started(daemon, "logs", "-f", "web") as following:
        assert await reads(following, 1) == ["run"]
        await daemon.call("POST", "/processes/web/restart", 200)
        assert await reads(following, 1) == ["run"]
        following.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(following.wait(), DEADLINE_S) == 130
    assert (await daemon.get(process))["status"] == "running"  # Ctrl-C leaves, and ends nothing


async def test_lines_that_match_are_chosen_with_those_around_them(daemon: Daemon) -> None:
    process = await daemon.ended(
        await daemon.sh("seq 20; printf '\\033[31mREd\\033[0m\\n\\377end\\nla'; echo st; printf cut")
    )

    async def logs(*words: str) -> list[bytes]:
        said = await outlast(daemon, "logs", *words, process["id"])
        assert (said.code, said.err) == (0, "")
        return said.out.split(b"\n")[:-1] if said.out.endswith(b"\n") else said.out.split(b"\n")

    for follow in ([], ["-f"]):
        assert await logs(*follow, "-g", "^1?5$") == [b"5", b"15"]
        around = [b"4", b"5", b"6", b"--", b"14", b"15", b"16"]
        assert await logs(*follow, "-g", "^1?5$", "-C", "1") == around
        assert await logs(*follow, "-g", "^[56]$", "-C", "2") == [str(n).encode() for n in range(3, 9)]
        assert await logs(*follow, "-g", "^[48]$", "-C", "2") == [str(n).encode() for n in range(2, 11)]
        assert await logs(*follow, "-g", r"^\d+$", "-v") == [b"\x1b[31mREd\x1b[0m", b"\xffend", b"last", b"cut"]
        assert await logs(*follow, "-g", "^red$") == [b""]
        assert await logs(*follow, "-g", "^red$", "-i") == [b"\x1b[31mREd\x1b[0m"]
        assert await logs(*follow, "-g", "end$") == [b"\xffend"]
        assert await logs(*follow, "-g", "^cut$") == [b"cut"]
        assert await logs(*follow, "-n", "2", "-g", ".") == [b"last", b"cut"]
    timed = await outlast(daemon, "logs", "-t", "-g", "^last", "-C", "1", process["id"])
    assert [line[13:] for line in timed.text.splitlines()] == ["\ufffdend", "last", "cut"]
    for words, problem in ((["-v"], "give -g, too"), (["-C", "1"], "give -g, too"), (["-g", "("], "expression of RE2")):
        said = await outlast(daemon, "logs", *words, process["id"])
        assert (said.code, problem in said.err) == (2, True), said.err


async def test_lines_of_several_are_chosen_by_themselves(daemon: Daemon) -> None:
    refs = [(await daemon.ended(await daemon.sh("seq 5")))["id"] for _ in range(2)]
    for follow in ([], ["-f"]):
        said = await outlast(daemon, "logs", *follow, "-g", "3", "-C", "1", *refs)
        shown = [line for line in said.text.splitlines() if "──" not in line]
        for handle in ("@1", "@2"):
            assert [line for line in shown if line.startswith(handle)] == [f"{handle} │ {n}" for n in (2, 3, 4)]
