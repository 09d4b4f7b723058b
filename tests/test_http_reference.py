"""The generated documents are those that the code makes."""

import re
from pathlib import Path

import pytest

from outlast.api.errors import ALL_SPECS
from outlast.api.routes import ROUTES
from tools.http_reference import DOCS, pages

PAGES = pages()


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_is_up_to_date(path: Path) -> None:
    assert path.read_text() == PAGES[path], "stale: run `make docs`"


def test_every_call_is_described() -> None:
    text = (DOCS / "http-api.md").read_text()
    for route in ROUTES:
        if route.documented:
            assert f"`{route.method} {route.path}`" in text


def test_every_field_of_a_query_is_described() -> None:
    text = (DOCS / "http-api.md").read_text()
    for route in ROUTES:
        if route.documented:
            for name in route.query().fields:
                assert f"| `{name}` | query" in text


def test_every_error_code_is_described() -> None:
    text = (DOCS / "errors.md").read_text()
    assert set(re.findall(r"^## ([A-Z_]+)$", text, re.MULTILINE)) == {spec.code for spec in ALL_SPECS}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_inside_the_pages_lead_to_a_heading(path: Path) -> None:
    headings = {
        page.name: set(map(anchor_of, re.findall(r"^#+ (.*)$", text, re.MULTILINE))) for page, text in PAGES.items()
    }
    for file, anchor in re.findall(r"\]\(([a-z.-]*)#([^)]+)\)", PAGES[path]):
        assert anchor in headings[file or path.name], (file, anchor)
