"""The form of the page: reachable for everybody, light and dark, wide and narrow; and small at its first paint."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.page.browser import NARROW, WIDE, Visitor, shows
from tests.page.test_scripts import CHECKS, install
from tests.support.waiting import eventually

MOST_JAVASCRIPT_BYTES = 100_000
PLACES = {
    "start": "",
    "log": "?p=web",
    "events": "?p=web&tab=events",
    "runs": "?p=web&tab=runs",
    "stats": "?p=web&tab=stats",
    "details": "?p=web&tab=details",
    "several": "?tag=team:a",
    "search": "?tab=search&q=a",
    "sql": "?tab=sql&q=SELECT+id%2C+name+FROM+processes",
    "gone": "?p=@9999",
}
AXE = Path(CHECKS) / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_axe_finds_nothing(visitor: Visitor, scheme: Any, size: tuple[int, int]) -> None:
    install()
    script = "for i in 1 2 3; do printf '\\033[3%dmcoloured\\033[0m plain\\n' $i; done; echo bad >&2; sleep 1000"
    await visitor.daemon.sh(script, name="web", tags={"team": "a"})
    await visitor.daemon.sh("exit 3", name="failed", restart={"policy": "never"})
    context = await visitor.context(size=size, color_scheme=scheme)
    page = await visitor.open(context=context)
    for place in PLACES.values():
        await page.goto(f"{visitor.daemon.url}/{place}")
        await shows(page, "main h1", bool)
        await page.wait_for_load_state("load")
        await page.evaluate(AXE.read_text())
        found = await page.evaluate("axe.run()")
        told = [(one["id"], one["help"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
        assert told == [], place


async def test_the_first_paint_needs_little_javascript(visitor: Visitor) -> None:
    await visitor.daemon.sh("echo hello; sleep 1000", name="web")
    page = await visitor.open("?p=web")
    await shows(page, ".log", "hello")
    sizes = await page.evaluate(
        "performance.getEntriesByType('resource').filter(e => e.name.endsWith('.js')).map(e => e.decodedBodySize)"
    )
    assert len(sizes) > 5
    assert sum(sizes) < MOST_JAVASCRIPT_BYTES


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_nothing_is_wider_than_a_telephone(visitor: Visitor, place: str) -> None:
    await visitor.daemon.sh("echo hello; sleep 1000", name="web", tags={"team": "a"})
    page = await visitor.open(place, size=NARROW)
    await shows(page, "main h1", bool)
    assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


async def test_what_is_drawn_has_the_colours_of_the_theme(visitor: Visitor) -> None:
    """The theme of the page is stronger than that of the system, on canvases too."""
    await visitor.daemon.sh("echo bad >&2; sleep 1000", name="web")
    page = await visitor.open("?p=web", color_scheme="light")
    await shows(page, ".log", "bad")
    for theme, colour in {"light": [196, 52, 43], "dark": [240, 119, 108]}.items():
        while await page.evaluate("document.documentElement.dataset.theme") != theme:
            await page.click("text=Theme")
        await eventually(partial(_has, page, colour), f"the strip is drawn for the theme {theme}")


async def _has(page: Page, colour: list[int]) -> bool:
    """Tell whether a pixel of the strip has this colour."""
    return bool(
        await page.evaluate(
            """([r, g, b]) => {
              const strip = document.querySelector('.strip');
              const copy = new OffscreenCanvas(strip.width, strip.height);
              const context = copy.getContext('2d', { willReadFrequently: true });
              context.drawImage(strip, 0, 0);
              const { data } = context.getImageData(0, 0, strip.width, strip.height);
              return data.some((_, n) => n % 4 === 0 && data[n] === r && data[n + 1] === g && data[n + 2] === b);
            }""",
            colour,
        )
    )


async def test_a_newer_daemon_is_a_sentence(visitor: Visitor) -> None:
    page = await visitor.open()
    await page.evaluate("""async () => {
      const main = document.querySelector('script').src;
      const { processes } = await import(main.replace('main.js', 'state/processes.js'));
      const real = window.fetch;
      const newer = () => Promise.resolve(new Response(null, { headers: { ETag: '"newer"' } }));
      window.fetch = (where, init) => where === '/' ? newer() : real(where, init);
      processes.connected.emit();
    }""")
    await shows(page, ".trouble", "another version")
