"""The tree is kept tidy: rules that are agreed and that no linter checks."""

import ast
import re
import tomllib
from dataclasses import fields
from pathlib import Path

from outlast import __version__
from outlast.config import Settings
from outlast.config.settings import CONFIG_VARIABLE, ENVIRONMENT

ROOT = Path(__file__).parent.parent
ROOMS = ("app", "bench", "examples", "harness", "tests", "tools")
MODULES = sorted(
    path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.relative_to(ROOT).parts
)
LONGEST_MODULE_LINES = 500
LONGEST_FUNCTION_LINES = 60


def test_modules_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """A function is counted from its `def` to its last line."""
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION_LINES} == {}


SETTINGS = {field.name: field.default for field in fields(Settings) if field.name != "token"}


def test_the_sample_configuration_has_every_default() -> None:
    in_toml = {name: list(value) if isinstance(value, tuple) else value for name, value in SETTINGS.items()}
    assert tomllib.loads((ROOT / "config" / "outlast.toml").read_text()) == in_toml


def test_every_setting_is_documented() -> None:
    documentation = (ROOT / "docs" / "configuration.md").read_text()
    for name in [*SETTINGS, *ENVIRONMENT, CONFIG_VARIABLE]:
        assert f"`{name}`" in documentation, name


def test_suppressions_say_why() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in MODULES
        if path.is_relative_to(ROOT / "app") or path.is_relative_to(ROOT / "harness")
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
    assert re.search(
        rf"^## \[({re.escape(__version__)}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
