"""Logging in and out, as a person does."""

from tests.page.browser import Visitor, follows, shows


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
