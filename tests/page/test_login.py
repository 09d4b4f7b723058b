"""Logging in and out, as a person does."""

from tests.page.browser import Visitor, follows, shows


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


async def test_a_login_that_has_ended_is_a_sentence(visitor: Visitor) -> None:
    await visitor.daemon.sh("echo hello; sleep 1000", name="web")
    page = await visitor.open("?p=web")
    await follows(page)
    await page.context.clear_cookies()
    await visitor.daemon.kill()
    await visitor.daemon.start()
    await shows(page, ".trouble", "not logged in any more")
    await page.click("text=Log in")
    await page.wait_for_selector("#token")
    await page.fill("#token", visitor.daemon.token)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".row")
    await shows(page, ".log", "hello")
