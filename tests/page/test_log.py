"""The log of one process: its rows, the live end, places in it, and what hostile output does to it."""

import json
from typing import Any

from playwright.async_api import Page

from tests.page.browser import ENDLESS, Visitor, follows, rows, shows, shows_line, text_of
from tests.support.waiting import eventually

MOST_ELEMENTS = 300
LINES = 120_000

SEVENTH_ROW = """() => {
  const row = [...document.querySelectorAll('.row')][6];
  return [row.dataset.seq, row.getBoundingClientRect().top];
}"""
BELOW_END = """() => {
  const log = document.querySelector('.log').getBoundingClientRect();
  return Math.abs([...document.querySelectorAll('.row')].at(-1).getBoundingClientRect().bottom - log.bottom);
}"""


async def test_nothing_moves_while_one_reads(visitor: Visitor) -> None:
    process = await visitor.daemon.python(ENDLESS)
    await visitor.daemon.wait_for_lines(process, 150)
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    await page.mouse.move(700, 500)
    await page.mouse.wheel(0, -400)
    await shows(page, ".foot .state", "not following")
    await shows(page, ".pill", "new")
    place = SEVENTH_ROW
    before = await page.evaluate(place)
    came = int((await text_of(page, ".pill")).split()[1])
    await shows(page, ".pill", lambda text: int(text.split()[1].replace(",", "")) > came + 20)
    assert await page.evaluate(place) == before
    await page.keyboard.press("End")
    await follows(page)


async def test_a_place_in_a_long_log_is_exact(visitor: Visitor) -> None:
    process = await visitor.daemon.sh(f"seq {LINES}")
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows_line(page, LINES, str(LINES))
    assert await page.evaluate("document.querySelectorAll('.log *').length") < MOST_ELEMENTS
    await page.evaluate("() => { const log = document.querySelector('.log'); log.scrollTop = 60000 * 18 }")
    await shows_line(page, 60_001, "60001")
    await page.keyboard.press("g")
    await shows_line(page, 1, "1")
    await page.keyboard.press("G")
    await shows_line(page, LINES, str(LINES))


async def test_a_line_is_linked_and_back_leads_back(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("seq 5000")
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}&seq=2500")
    await shows(page, ".row.marked .text", "2500")
    await page.keyboard.press("t")
    await page.fill("dialog input", "4,000")
    await page.keyboard.press("Enter")
    await shows(page, ".row.marked .text", "4000")
    assert "seq=4000" in page.url
    await page.go_back()
    await shows(page, ".row.marked .text", "2500")


async def test_parts_of_a_line_are_one_row(visitor: Visitor) -> None:
    """A prompt and its rest come as two events of the stream, and are one line, live as later."""
    script = "read a; printf 'name? '; read a; echo Ada; echo bye; sleep 1000"
    process = await visitor.daemon.sh(script, stdin_mode="pipe")
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    path = f"/processes/{process['id']}/stdin"
    await visitor.daemon.call("POST", path, 204, data=b"\n")
    await shows(page, ".log", "name?")
    await visitor.daemon.call("POST", path, 204, data=b"\n")
    await shows(page, ".log", "bye")
    live = await rows(page)
    assert [text for _, text in live] == ["name? Ada", "bye"]
    await page.reload()
    await shows(page, ".log", "bye")
    assert await rows(page) == live


async def test_hostile_output_is_text(visitor: Visitor) -> None:
    hostile = [
        b"<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>",
        b"\x1b]52;c;aGFjaw==\x07after osc 52",
        b"nul \x00 bell \x07 back \x08",
        b"\x1b[2J\x1b[Hcleared \x1b]0;title\x07",
        b"\x1b]8;;javascript:window.hit=1\x07link\x1b]8;;\x07",
        b"\xff\xfe not utf-8",
        "\u202etxt.exe".encode(),
        b"\x1b[31mred\x1b[0m \x1b]8;;https://example.com\x1b\\web\x1b]8;;\x1b\\",
        b"10%\r50%\rdone",
    ]
    program = f"import sys\nsys.stdout.buffer.write(b'\\n'.join({hostile!r}) + b'\\n')"
    process = await visitor.daemon.python(program)
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows_line(page, len(hostile))
    shown = dict(await rows(page))
    assert shown[1] == hostile[0].decode()
    assert shown[2] == "after osc 52"
    assert shown[3] == "nul \u2400 bell \u2407 back \u2408"
    assert shown[4] == "cleared "
    assert shown[5] == "link"
    assert shown[7] == "\ufffdtxt.exe"
    assert shown[9] == "done"
    assert await page.evaluate("window.hit") is None
    links = await page.eval_on_selector_all(".log a", "links => links.map(link => link.href)")
    assert links == ["https://example.com/"]
    assert await page.evaluate("document.title") != "title"


async def test_a_line_of_a_megabyte_is_a_row(visitor: Visitor) -> None:
    program = "print('begin'); print('x' * ((1 << 20) - 8) + 'THE END'); print('end')"
    process = await visitor.daemon.python(program)
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows(page, ".log", "end")
    assert len(await text_of(page, ".log")) < 10_000
    await page.click(".more")
    whole = await page.text_content("dialog .whole")
    assert whole == "x" * ((1 << 20) - 8) + "THE END"
    await page.keyboard.press("Escape")
    await page.keyboard.press("w")
    await shows(page, ".log", "end")


async def test_wrapped_lines_keep_the_end_and_scroll(visitor: Visitor) -> None:
    process = await visitor.daemon.python("for i in range(1, 3001): print(i, 'word ' * (i % 200))")
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows_line(page, 3000)
    await page.keyboard.press("w")
    await eventually(lambda: _is_small(page, BELOW_END), "the last line is at the bottom")
    await page.mouse.move(700, 500)
    for _ in range(40):
        await page.mouse.wheel(0, -500)
    await eventually(lambda: _first_below(page, 2900), "the wheel leads up")
    numbers = [seq for seq, _ in await rows(page)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def _is_small(page: Page, script: str) -> bool:
    return bool(await page.evaluate(script) < 3)


async def _first_below(page: Page, seq: int) -> bool:
    shown = await rows(page)
    return bool(shown) and shown[0][0] < seq


async def test_errors_are_marked_and_found(visitor: Visitor) -> None:
    many = "for i in $(seq 400); do echo out $i; done"
    script = f"{many}; sleep 0.3; echo bad >&2; sleep 0.3; {many}"
    process = await visitor.daemon.sh(script)
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows_line(page, 801)
    await page.keyboard.press("E")
    await shows(page, ".row.marked.err .text", "bad")
    await page.click("text=stdout")
    await shows(page, ".figures >> nth=-1", "1 of 1 match")
    assert [text for _, text in await rows(page)] == ["bad"]


async def test_runs_are_marked(visitor: Visitor) -> None:
    restart = {"policy": "on_failure", "max_restarts": 1, "initial_backoff_ms": 1, "max_backoff_ms": 1}
    process = await visitor.daemon.sh("echo began; sleep 0.2; exit 7", name="twice", restart=restart)
    await eventually(lambda: _lines(visitor, process, 2), "both runs have printed")
    page = await visitor.open("?p=twice")
    await shows_line(page, 2)
    mark = await page.get_attribute(".row.begins", "data-mark")
    assert mark is not None
    assert "run 2" in mark
    assert "exit 7" in mark


async def test_a_run_is_shown_alone(visitor: Visitor) -> None:
    """A run that has ended, the current one, and the one that follows it while one looks."""
    script = 'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; seq -f "run $n line %g" 700; sleep 1000'
    folder = {"working_dir": str(visitor.daemon.state_dir)}
    process = await visitor.daemon.sh(script, name="again", restart={"policy": "never"}, **folder)
    await visitor.daemon.wait_for_lines(process, 700)
    await visitor.daemon.call("POST", "/processes/again/restart", 200)
    await visitor.daemon.wait_for_lines(process, 1400)
    page = await visitor.open("?p=again")
    await shows_line(page, 1400, "run 1 line 700")
    await page.select_option("select.run", "1")
    await shows_line(page, 700, "run 0 line 700")
    assert "run=1" in page.url
    await eventually(lambda: _goes_up(page), "the keys lead to the first line of the run")
    await shows(page, ".foot .figures", "of 700 lines")
    await page.select_option("select.run", "2")
    await shows_line(page, 1400, "run 1 line 700")
    await visitor.daemon.call("POST", "/processes/again/restart", 200)
    await visitor.daemon.wait_for_lines(process, 2100)
    await page.wait_for_selector("select.run option[value='3']", state="attached")
    assert all(text.startswith("run 1 ") for _, text in await rows(page))
    await page.click(".tabs >> text=Runs")
    await page.click(".panel tbody tr:last-child >> text=log")
    await shows_line(page, 700, "run 0 line 700")


async def _goes_up(page: Page) -> bool:
    await page.keyboard.press("g")
    return (1, "run 0 line 1") in await rows(page)


async def _lines(visitor: Visitor, process: dict[str, Any], count: int) -> bool:
    return bool((await visitor.daemon.get(process))["output"]["lines"] >= count)


async def test_copied_lines_have_neither_times_nor_numbers(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("seq 100")
    await visitor.daemon.ended(process)
    context = await visitor.context(permissions=["clipboard-read", "clipboard-write"])
    page = await visitor.open(f"?p=@{process['handle']}&seq=80", context=context)
    await shows(page, ".row.marked .text", "80")
    await page.click(".row[data-seq='83'] .gutter", modifiers=["Shift"])
    await shows(page, "#toasts", "4 lines")
    assert json.dumps(await page.evaluate("navigator.clipboard.readText()")) == json.dumps("80\n81\n82\n83\n")
