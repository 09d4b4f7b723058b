"""The form of the page: reachable for everybody, light and dark, wide and narrow; and small at its first paint."""

from pathlib import Path
from typing import Any

import pytest

from tests.page.browser import NARROW, WIDE, Visitor, shows
from tests.page.test_scripts import CHECKS, install

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
