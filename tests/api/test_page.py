"""How the page and its files are sent."""

import re
from pathlib import Path

import outlast
from outlast.api.handlers.page import BUILD, without_comments

from .server import BEARER, Server

WEB = Path(outlast.__file__).parent / "web"


async def test_the_page_is_asked_for_again_and_sent_when_it_has_changed(server: Server) -> None:
    first = await server.ask("GET", "/")
    assert first.status == 200
    assert first.headers["Cache-Control"] == "no-cache"
    again = await server.ask("GET", "/", headers=BEARER | {"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    other = await server.ask("GET", "/", headers=BEARER | {"If-None-Match": '"older"'})
    assert other.status == 200


async def test_the_page_may_load_its_own_files_only(server: Server) -> None:
    policy = (await server.ask("GET", "/")).headers["Content-Security-Policy"]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert parts["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy
    assert "//" not in policy


async def test_every_file_is_served_and_kept_for_ever(server: Server) -> None:
    for path in WEB.rglob("*"):
        if path.suffix not in {".js", ".css", ".svg"}:
            continue
        answer = await server.ask("GET", f"/web/{BUILD}/{path.relative_to(WEB)}")
        assert answer.status == 200, path
        assert "immutable" in answer.headers["Cache-Control"]
        body = path.read_bytes()
        assert answer.body == (without_comments(body) if path.suffix == ".js" else body)
        assert answer.body.count(b"\n") == body.count(b"\n")


async def test_a_file_of_another_build_is_not_served(server: Server) -> None:
    answer = await server.ask("GET", "/web/0123456789abcdef/main.js")
    assert answer.status == 404
    assert b"load the page again" in answer.body


async def test_no_path_leads_out_of_the_folder(server: Server) -> None:
    for path in ("..%2f__init__.py", "%2e%2e/__init__.py", "log/..%2f..%2f__init__.py", "index.html"):
        assert (await server.ask("GET", f"/web/{BUILD}/{path}")).status == 404


async def test_any_query_passes(server: Server) -> None:
    assert (await server.ask("GET", "/?p=@1&whatever=1")).status == 200


def test_no_file_names_another_host() -> None:
    named = {
        f"{path.name}: {url}"
        for path in WEB.rglob("*")
        if path.is_file()
        for url in re.findall(r"https?://[\w.]+", path.read_text())
        if url != "http://www.w3.org"  # the name of SVG, which nothing loads
    }
    assert named == set()


def test_no_text_of_a_module_goes_over_several_lines() -> None:
    """The indentation of modules is not sent."""
    odd = [
        f"{path.name}: {line}"
        for path in WEB.rglob("*.js")
        for line in path.read_text().splitlines()
        if line.replace("\\`", "").count("`") % 2
    ]
    assert odd == []
