"""The tree is kept tidy: what is agreed and no linter knows."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from outlast.config import Settings
from outlast.config.settings import CONFIG_VARIABLE, ENVIRONMENT

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "app").rglob("*.py"))
LONGEST_MODULE_LINES = 350
# The conformance suite is one class that third parties read from top to bottom.
LONGER = {"app/outlast/testing/storage/conformance.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in LONGER:
        assert len(path.read_text().splitlines()) <= LONGEST_MODULE_LINES


def test_every_setting_is_in_the_file_and_the_documentation() -> None:
    settings = {field.name: field.default for field in fields(Settings) if field.name != "token"}
    in_toml = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    assert tomllib.loads((ROOT / "config" / "outlast.toml").read_text()) == in_toml
    documentation = (ROOT / "docs" / "configuration.md").read_text()
    for name in [*settings, *ENVIRONMENT, CONFIG_VARIABLE]:
        assert f"`{name}`" in documentation, name


def test_suppressions_say_why() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"# type: ignore(?!\[)|# noqa(?!:)|# noqa: [A-Z0-9, ]+$", line)
    ]
    assert bare == []


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "app").rglob("*.md")]
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[({re.escape(version)}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
