"""Views beside the log: the list of processes, events, runs, stats, details, search, SQL."""

from playwright.async_api import Page

from tests.page.browser import Visitor, follows, shows, shows_line, text_of
from tests.support.waiting import eventually


async def test_the_list_tells_the_last_output(visitor: Visitor) -> None:
    """A process that is looked at tells by its stream, others when somebody turns to the list."""
    script = "read a; echo said; sleep 1000"
    for name in ("seen", "other"):
        await visitor.daemon.sh(script, name=name, stdin_mode="pipe")
    page = await visitor.open("?p=seen")
    await follows(page)
    nothing = "since its start: it has printed nothing"
    assert await _ages(page) == {"seen": nothing, "other": nothing}
    await visitor.daemon.call("POST", "/processes/other/stdin", 204, data=b"\n")
    await visitor.daemon.call("POST", "/processes/seen/stdin", 204, data=b"\n")
    await shows(page, ".log", "said")
    await eventually(lambda: _tells(page, {"seen": "since its last output", "other": nothing}), "the stream tells")
    later = "() => { const now = performance.now.bind(performance); performance.now = () => now() + 60000; }"
    await page.evaluate(later)
    await page.mouse.move(700, 500)
    await page.hover(".sidebar")
    told = dict.fromkeys(("seen", "other"), "since its last output")
    await eventually(lambda: _tells(page, told), "a look at the list tells")


async def _ages(page: Page) -> dict[str, str]:
    script = "all => Object.fromEntries(all.map(one => [one.children[1].textContent, one.lastElementChild.title]))"
    found: dict[str, str] = await page.eval_on_selector_all(".process", script)
    return found


async def _tells(page: Page, wanted: dict[str, str]) -> bool:
    return await _ages(page) == wanted


async def test_a_process_is_found_by_keys_alone(visitor: Visitor) -> None:
    for name in ("alpha", "beta", "gamma"):
        await visitor.daemon.sh(f"echo I am {name}; sleep 1000", name=name)
    page = await visitor.open()
    await shows(page, ".processes", "gamma")
    await page.keyboard.press("Control+k")
    await page.keyboard.type("bet")
    await page.keyboard.press("Enter")
    await shows(page, ".log", "I am beta")
    assert await text_of(page, ".process[aria-current] .name") == "beta"


async def test_a_thousand_processes_are_listed(visitor: Visitor) -> None:
    await visitor.daemon.sh("for i in $(seq 5); do :; done")
    page = await visitor.open()
    await shows(page, ".sidebar .by", "of 1")
    await page.evaluate("""async () => {
      const main = document.querySelector('script').src;
      const { processes } = await import(main.replace('main.js', 'state/processes.js'));
      const [one] = processes.all.values();
      for (let n = 2; n <= 1000; n += 1) {
        processes.all.set(`x${n}`, { ...one, id: `x${n}`, handle: n, name: `process-${n}` });
      }
      processes.changed.emit();
    }""")
    await shows(page, ".sidebar .by", "of 1,000")
    await page.fill(".sidebar .find input", "process-777")
    await eventually(lambda: _count(page, 1), "one process is shown")


async def _count(page: Page, wanted: int) -> bool:
    return len(await page.query_selector_all(".process")) == wanted


async def test_several_processes_are_one_list(visitor: Visitor) -> None:
    for name in ("one", "two"):
        await visitor.daemon.sh(f"echo from {name}; sleep 1000", name=name, tags={"team": "a"})
    page = await visitor.open("?tag=team:a")
    await follows(page)
    await shows(page, ".log", "from one")
    await shows(page, ".log", "from two")
    sources = await page.eval_on_selector_all(".source", "all => all.map(one => one.textContent)")
    assert sorted(sources) == ["one", "two"]


async def test_events_runs_stats_and_details(visitor: Visitor) -> None:
    restart = {"policy": "on_failure", "max_restarts": 1, "initial_backoff_ms": 1, "max_backoff_ms": 1}
    await visitor.daemon.sh("sleep 0.1; exit 3", name="job", restart=restart, tags={"k": "v"})
    page = await visitor.open("?p=job")
    await shows(page, ".head .badge", "exit 3")
    await page.keyboard.press("2")
    await shows(page, ".panel", "restarted")
    await page.keyboard.press("3")
    await shows(page, ".panel tbody tr", "exit 3")
    await page.keyboard.press("4")
    await shows(page, ".panel", lambda text: "Run 2" in text or "too short" in text)
    await page.keyboard.press("5")
    await shows(page, ".panel", "k:v")
    await page.go_back()
    assert "tab=stats" in page.url


async def test_a_search_leads_to_the_line(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("seq 3000; echo needle; seq 3000")
    await visitor.daemon.ended(process)
    page = await visitor.open("?tab=search")
    await page.fill("main input[type=search]", "n[e]+dle")
    await page.check("text=regular expression")
    await page.keyboard.press("Enter")
    await page.click(".main")
    await shows(page, ".result .line", "needle")
    await page.click(".result")
    await shows(page, ".row.marked .text", "needle")
    await shows(page, ".row.marked mark", "needle")


async def test_a_log_is_searched_by_the_daemon(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("seq 20000")
    await visitor.daemon.ended(process)
    page = await visitor.open(f"?p=@{process['handle']}")
    await shows_line(page, 20_000)
    await page.keyboard.press("/")
    await page.keyboard.type("777")
    await page.keyboard.press("Shift+Enter")
    await shows(page, ".row.marked .text", "19777")
    await page.keyboard.press("Escape")
    await page.keyboard.press("N")
    await shows(page, ".row.marked .text", "18777")
    await page.click("text=Only matches")
    await shows(page, ".foot .figures", "matches")
    await page.click(".row[data-seq='7777'] .gutter")
    await shows(page, ".row.marked .text", "7777")
    await page.click(".needle")
    await page.fill(".needle", "(")
    await page.click("text=.*")
    await page.keyboard.press("n")
    await shows(page, ".toolbar .message", bool)


async def test_sql_has_parameters_a_result_and_a_link(visitor: Visitor) -> None:
    process = await visitor.daemon.sh("echo hello; sleep 1000", name="said")
    await visitor.daemon.wait_for_lines(process, 1)
    page = await visitor.open("?tab=sql")
    await page.fill("main textarea", "SELECT process_id, line, ':no' AS t FROM output_lines WHERE line = :said")
    await page.fill("input[name=said]", "hello")
    await page.keyboard.press("Enter")
    await shows(page, ".results", "hello")
    assert await text_of(page, ".result-line") != ""
    await shows(page, ".views", "output_lines")
    assert "q=SELECT" in page.url
    await page.click(".results a")
    await shows(page, ".head h1", "said")
    await page.go_back()
    await page.fill("main textarea", "SELECT x FROM nowhere")
    await page.keyboard.press("Control+Enter")
    await shows(page, ".result-line", "nowhere")


async def test_input_signal_and_stop(visitor: Visitor) -> None:
    process = await visitor.daemon.sh(
        "trap 'echo got it' USR1; while read line; do echo \"you said $line\"; done", stdin_mode="pipe"
    )
    page = await visitor.open(f"?p=@{process['handle']}")
    await page.click("text=Input…")
    await page.fill("dialog textarea", "hi")
    await page.keyboard.press("Control+Enter")
    await shows(page, ".log", "you said hi")
    await page.keyboard.press("Escape")
    await page.click("text=Stop…")
    await page.click("dialog .danger")
    await shows(page, ".head .badge", "SIGTERM")
