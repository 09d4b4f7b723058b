"""Debian's Chromium with the page in it, as a person would use both."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright

from tests.support.daemon import Daemon
from tests.support.required import program
from tests.support.waiting import DEADLINE_S, eventually

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
    "--enable-precise-memory-info",
]
WIDE = (1280, 800)
NARROW = (390, 780)
# What a browser says of a daemon that is away, or refuses on purpose: the page tells it in a sentence.
_EXPECTED = ("Failed to load resource", "net::ERR_")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser; skip the test where there is none."""
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """A user of one daemon, with a browser.

    Attributes:
        errors: what the pages said went wrong in them.
    """

    def __init__(self, daemon: Daemon, browser: Browser) -> None:
        self.daemon = daemon
        self.browser = browser
        self.errors: list[str] = []

    async def context(self, *, size: tuple[int, int] = WIDE, **options: Any) -> BrowserContext:
        """Open a window of their own for some pages, logged in."""
        width, height = size
        context = await self.browser.new_context(viewport={"width": width, "height": height}, **options)
        name, value = await self._login()
        await context.add_cookies([{"name": name, "value": value, "url": self.daemon.url}])
        context.set_default_timeout(DEADLINE_S * 1000)
        return context

    async def _login(self) -> tuple[str, str]:
        """Log in, and return name and value of the cookie."""
        form = {"token": self.daemon.token}
        async with self.daemon.session.post(f"{self.daemon.url}/login", data=form, allow_redirects=False) as answer:
            (cookie,) = answer.cookies.values()
        return cookie.key, cookie.value

    async def open(self, place: str = "", *, context: BrowserContext | None = None, **options: Any) -> Page:
        """Open the page at a place: the query of its URL."""
        page = await (context or await self.context(**options)).new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        await page.goto(f"{self.daemon.url}/{place}")
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(word in message.text for word in _EXPECTED):
            self.errors.append(message.text)


async def rows(page: Page) -> list[tuple[int, str]]:
    """Return number and text of the lines on the screen and just beyond it."""
    found = await page.evaluate(
        "() => [...document.querySelectorAll('.row:not(.waiting)')].map(row => "
        "[Number(row.dataset.seq), row.querySelector('.text').textContent])"
    )
    return [(int(seq), str(text)) for seq, text in found]


async def text_of(page: Page, selector: str) -> str:
    """Return the text of an element; empty: it is not there, or not visible."""
    with contextlib.suppress(Error):  # the browser is on its way to another page
        found = await page.query_selector(selector)
        return (await found.inner_text()).strip() if found and await found.is_visible() else ""
    return ""


async def shows(page: Page, selector: str, wanted: str | Callable[[str], bool], deadline_s: float = DEADLINE_S) -> str:
    """Wait until the text of an element has `wanted` in it, or fulfils it, and return it."""
    seen = ""

    async def look() -> bool:
        nonlocal seen
        seen = await text_of(page, selector)
        return wanted in seen if isinstance(wanted, str) else wanted(seen)

    try:
        await eventually(look, f"{selector} shows {wanted!r}", deadline_s)
    except (TimeoutError, AssertionError) as error:
        raise AssertionError(f"{selector} shows {seen!r}, not {wanted!r}") from error
    return seen


async def shows_line(page: Page, seq: int, text: str | None = None) -> None:
    """Wait until a line is on the screen."""

    async def look() -> bool:
        return any(number == seq and text in {None, shown} for number, shown in await rows(page))

    await eventually(look, f"line {seq} is shown: {text!r}")


async def follows(page: Page) -> None:
    """Wait until the log follows a live stream."""
    await shows(page, ".foot .state", "following")
