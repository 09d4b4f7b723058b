"""The short form of the tests of the page, which `make test` runs: log in, see processes come, and read a log."""

from tests.page.browser import ENDLESS, Visitor, follows, rows, shows, shows_line, text_of


async def test_the_token_leads_to_the_place_that_was_asked_for(visitor: Visitor) -> None:
    await visitor.daemon.sh("echo hello; sleep 1000", name="web")
    page = await (await visitor.browser.new_context()).new_page()
    await page.goto(f"{visitor.daemon.url}/?p=web&tab=log")
    await page.fill("#token", "wrong")
    await page.keyboard.press("Enter")
    await shows(page, "#said", bool)
    await page.fill("#token", visitor.daemon.token)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".row")
    await shows(page, ".log", "hello")
    await page.click("text=Log out")
    await page.wait_for_selector("#token")


async def test_processes_come_and_end_by_themselves(visitor: Visitor) -> None:
    page = await visitor.open()
    await shows(page, "main", "no processes yet")
    process = await visitor.daemon.sh("sleep 1000", name="worker", tags={"project": "shop"})
    await shows(page, ".processes", "worker")
    await shows(page, ".processes h2", "shop")
    assert await page.get_attribute(".process .dot", "aria-label") == "running"
    await visitor.daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=0", 204)
    await page.wait_for_selector(".process .dot.failed")


async def test_the_end_is_shown_and_followed(visitor: Visitor) -> None:
    process = await visitor.daemon.python(ENDLESS)
    page = await visitor.open(f"?p=@{process['handle']}")
    await follows(page)
    for _ in range(3):
        shown = max(seq for seq, _ in await rows(page))
        await shows_line(page, shown + 5, str(shown + 5))
    assert await text_of(page, ".pill") == ""
