"""Sentences are plain: banned turns of phrase, and docstrings that name their subject."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = sorted(
    path
    for room in ("app", "bench", "examples", "harness", "tests", "tools")
    for path in (ROOT / room).rglob("*.py")
    if "node_modules" not in path.parts
)
TEXTS = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md"), *(ROOT / "app").rglob("*.md"))
    if "node_modules" not in path.parts
) + sorted([*(ROOT / "config").iterdir(), *(ROOT / "migrations").rglob("*.sql")])
THIS = Path(__file__)

BANNED = re.compile(
    r"""\b(
      anew | for\ want\ of | in\ want\ of | whoever | thereof | hinder(s|ed)? | mend(s|ed|ing)?
    | can't\ be\ had | (is|are)\ to\ be\ had | can't | (?<!there\ )is\ no\ (?!longer\b|more\b|less\b)\w+
    | so\ many\b(?!\s+that)
    | (it|that)\ is\ so | nobody\ need(s)? | look(s|ed)?\ after | looking\ after | as\ it\ must\ be | comes\ to\ pass
    | need\ not\ be\ asked | let(s|ting)?\ go\ of | take(s|n)?\ back\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)
"""Turns of phrase that readers stumble over; the plain one stands in docs/glossary.md or in any newspaper."""

FAINT = re.compile(r"(It|Its|What|Who|Whose|They|Them|Of|So|That|Those|These|This|There|Where|Same|The same)\b")
"""First words of a docstring that do not say what it is about."""


def sentences(path: Path) -> list[tuple[int, str]]:
    """Return the docstrings, other strings and comments of a Python file, with their lines."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    found = [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for number, line in enumerate(source.splitlines(), 1):
        if match := re.search(r"# (.*)", line):
            found.append((number, match[1]))
    return found


def docstrings(path: Path) -> list[tuple[int, str]]:
    """Return the docstrings of modules, classes and functions, and those behind constants."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found += [
                (statement.lineno, statement.value.value)
                for statement in node.body
                if isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ]
    return found


def where(path: Path, line: int, text: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {text.strip().splitlines()[0][:100] if text.strip() else ''}"


@pytest.mark.parametrize("room", ["app", "bench", "examples", "harness", "tests", "tools"])
def test_code_has_no_banned_turns(room: str) -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r}"
        for path in CODE
        if path.relative_to(ROOT).parts[0] == room and path != THIS
        for line, text in sentences(path)
        if (match := BANNED.search(text))
    ]
    assert hits == []


@pytest.mark.parametrize("room", ["app", "bench", "examples", "harness", "tests", "tools"])
def test_docstrings_name_their_subject(room: str) -> None:
    hits = [
        where(path, line, text)
        for path in CODE
        if path.relative_to(ROOT).parts[0] == room and path != THIS
        for line, text in docstrings(path)
        if FAINT.match(text.strip())
    ]
    assert hits == []


def test_documents_have_no_banned_turns() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := BANNED.search(line))
    ]
    assert hits == []
