"""The live stream of the page: floods, restarts of the daemon, many windows, processes that go."""

from functools import partial

import pytest
from playwright.async_api import Page

from tests.page.browser import Visitor, follows, rows, shows, shows_line, text_of
from tests.support.programs import COUNTER
from tests.support.waiting import eventually

FLOOD_S = 12
LONG_FLOOD_S = 30
FLOOD = """
import time, sys
began = time.monotonic()
number = 0
while time.monotonic() < began + {seconds}:
    due = int((time.monotonic() - began) * 20000)
    lines = (f"line {{n}} of a flood that is long enough to be real\\n" for n in range(number + 1, due + 1))
    sys.stdout.write("".join(lines))
    sys.stdout.flush()
    number = max(number, due)
    time.sleep(0.01)
print("THE END", flush=True)
"""
HIDE = """hidden => {
  const value = hidden ? 'hidden' : 'visible';
  Object.defineProperty(document, 'visibilityState', { value, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""
WATCH_TASKS = """() => {
  window.longTasks = [];
  new PerformanceObserver(list => list.getEntries().forEach(one => window.longTasks.push(one.duration)))
    .observe({ type: 'longtask' });
}"""
HEAP = "() => { gc(); return performance.memory.usedJSHeapSize }"
MOST_GROWTH = 24 << 20
MANY_WINDOWS = 7


async def test_a_killed_daemon_is_followed_again_without_a_seam(visitor: Visitor) -> None:
    process = await visitor.daemon.python(COUNTER)
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    seams: list[int] = []
    for _ in range(2):
        await visitor.daemon.kill()
        await shows(page, ".trouble", "does not answer")
        seams.append(max(seq for seq, _ in await rows(page)))
        await visitor.daemon.start()
        await follows(page)
        await eventually(partial(_reached, page, seams[-1] + 200), "the page goes on")
        await eventually(partial(_is_calm, page), "the trouble is over")
    for seam in seams:
        await page.keyboard.press("t")
        await page.fill("dialog input", str(seam))
        await page.keyboard.press("Enter")
        for _ in range(5):
            await eventually(partial(_reached, page, seam), "the seam is shown")
            lines = await rows(page)
            assert [seq for seq, _ in lines] == list(range(lines[0][0], lines[0][0] + len(lines)))
            assert [text for _, text in lines] == [str(seq) for seq, _ in lines]
            seam = lines[-1][0] + 10  # noqa: PLW2901 - the place walks on from the seam
            await page.keyboard.press("PageDown")


async def _is_calm(page: Page) -> bool:
    return await text_of(page, ".trouble") == ""


async def _reached(page: Page, seq: int) -> bool:
    return any(number >= seq for number, _ in await rows(page))


@pytest.mark.parametrize("seconds", [FLOOD_S, pytest.param(LONG_FLOOD_S, marks=pytest.mark.long)])
async def test_a_flood_is_shown_to_its_last_line(visitor: Visitor, seconds: int) -> None:
    process = await visitor.daemon.python(FLOOD.format(seconds=seconds))
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    before = await page.evaluate(HEAP)
    await page.evaluate(WATCH_TASKS)
    await shows(page, ".foot .state", "ended", deadline_s=seconds + 40)
    tasks = await page.evaluate("window.longTasks")
    print(f"tasks longer than 50 ms in a flood of {seconds} s: {tasks}")  # noqa: T201 - a measure
    stored = (await visitor.daemon.get(process))["output"]["last_seq"]
    await shows_line(page, stored, "THE END")
    assert stored > seconds * 15_000
    assert await page.evaluate(HEAP) - before < MOST_GROWTH
    middle = stored // 2
    await page.evaluate(f"() => {{ document.querySelector('.log').scrollTop = {middle} * 18 }}")
    await shows_line(page, middle + 5, f"line {middle + 5} of a flood that is long enough to be real")


async def test_seven_windows_all_load(visitor: Visitor) -> None:
    """A browser has six connections to a server: the windows that were used last follow, the others rest."""
    process = await visitor.daemon.python(COUNTER)
    context = await visitor.context()
    pages = [await visitor.open(f"?p=@{process['handle']}", context=context) for _ in range(MANY_WINDOWS)]
    for page in pages:
        await shows(page, ".head h1", f"@{process['handle']}")
        await eventually(partial(rows, page), "lines are shown")
    await follows(pages[-1])
    await shows(pages[0], ".foot .state", "other windows")
    await pages[0].click(".foot .state")
    await follows(pages[0])


async def test_a_hidden_window_rests_and_goes_on(visitor: Visitor) -> None:
    process = await visitor.daemon.python(COUNTER)
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    await page.evaluate(HIDE, arg=True)
    await shows(page, ".foot .state", "background")
    shown = max(seq for seq, _ in await rows(page))
    await visitor.daemon.wait_for_lines(process, shown + 100)
    assert max(seq for seq, _ in await rows(page)) == shown
    await page.evaluate(HIDE, arg=False)
    await follows(page)
    await eventually(lambda: _reached(page, shown + 100), "the page goes on")


async def test_a_purged_process_is_a_sentence(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("echo here; sleep 1000")
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows(page, ".log", "here")
    await visitor.daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    await shows(page, "main", "It is gone")
    await shows(page, ".processes", "There are no processes yet")
    await page.reload()
    await shows(page, "main", "It is gone")


async def test_a_restart_of_a_process_goes_on_in_the_same_log(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("echo run; exit 0", name="job", restart={"policy": "never"})
    page = await visitor.open("?p=job")
    await shows(page, ".foot .state", "ended")
    await page.click("text=Restart")
    await shows_line(page, 2, "run")
    await shows(page, ".head .facts", "run 2")
    assert process["run"] == 1
