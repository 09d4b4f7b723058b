"""Picture of the web page for the README, of a real daemon with processes: `python -m tools.page_picture`."""

import asyncio
import tempfile
from pathlib import Path

from tests.page.browser import Visitor, chromium, follows
from tests.support.daemon import Daemon

PICTURE = Path(__file__).parents[1] / "docs" / "web-page.png"
_SIZE = (1280, 720)
_SHOP = """
import random, sys, time
chance = random.Random(7)
paths = ["/", "/cart", "/orders", "/orders/1842", "/login", "/static/app.css"]
colours = {200: 32, 304: 36, 404: 33, 502: 31}
for number in range(sys.maxsize):
    status = chance.choice([200] * 12 + [304, 304, 404, 502])
    coloured = f"\\x1b[{colours[status]}m{status}\\x1b[0m"
    print(f"GET {chance.choice(paths):16} {coloured} {chance.randint(2, 180):4} ms", flush=True)
    if status == 502:
        print("upstream 'payments' did not answer within 30 s, will try again", file=sys.stderr, flush=True)
    time.sleep(0.004 if number < 700 else 0.3)
"""
_NEVER = {"policy": "never"}


async def _start_processes(daemon: Daemon) -> None:
    shop = {"project": "shop"}
    await daemon.sh("exit 1", name="migrate", tags=shop, restart=_NEVER)
    await daemon.sh("while :; do echo idle; sleep 5; done", name="worker", tags=shop)
    await daemon.sh("while :; do echo mail sent; sleep 3; done", name="mailer", tags=shop)
    await daemon.python(_SHOP, name="web", tags=shop)
    for name in ("train-1", "train-2"):
        await daemon.sh("seq 1000; sleep 1000", name=name, tags={"project": "model"})
    await daemon.sh("seq 500", name="evaluate", tags={"project": "model"}, restart=_NEVER)


async def _take(folder: Path) -> None:
    daemon = Daemon(folder / "state")
    try:
        await daemon.start()
        await _start_processes(daemon)
        async with chromium() as browser:
            visitor = Visitor(daemon, browser)
            await daemon.wait_for_lines(await daemon.call("GET", "/processes/web", 200), 720)
            page = await visitor.open("?p=web", size=_SIZE, color_scheme="light")
            await follows(page)
            await page.wait_for_selector(".spark")
            await page.screenshot(path=PICTURE)
    finally:
        await daemon.end_everything()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(_take(Path(place)))
