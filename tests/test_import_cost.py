"""Imports that a program does not need are left out: each is paid for at every start of a daemon."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def imported(program: str) -> set[str]:
    """Packages that are there after `program`, in an interpreter of its own."""
    program = f"import sys; {program}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_the_package_alone_imports_no_module() -> None:
    program = "import sys; before = set(sys.modules); import outlast; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["outlast"]


def test_the_command_imports_few_modules() -> None:
    assert imported("import outlast.cli").isdisjoint(
        {"aiohttp", "aiosqlite", "asyncio", "marshmallow", "platformdirs", "uvloop"}
    )


def test_the_blocking_client_imports_no_event_loop() -> None:
    loaded = imported("from outlast import Outlast")
    slow = {"aiohttp", "asyncio", "email", "http", "httpx", "marshmallow", "platformdirs", "ssl", "tomllib"}
    assert loaded.isdisjoint(slow)
    assert "aiohttp" in imported("from outlast import AsyncOutlast")


def test_no_garbage_is_looked_for_while_a_command_imports(tmp_path: Path) -> None:
    program = """if True:
        import gc, sys, outlast.cli
        from outlast.cli import garbage
        begun = []
        gc.collect()
        gc.callbacks.append(lambda phase, _: begun.append(phase))
        begin = garbage.begin
        garbage.begin = lambda: (print(begun), begin(), print(gc.isenabled(), gc.get_freeze_count() > 10_000))
        outlast.cli.main(sys.argv[1:])
    """
    for words in (["shutdown", "--state-dir", str(tmp_path)], ["ps", "-H", f"unix:{tmp_path}/none"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ran.stdout.splitlines()[:2] == ["[]", "True True"], ran


def test_shutdown_imports_no_server() -> None:
    assert imported("import outlast.daemon.shutdown").isdisjoint({"aiohttp", "apispec", "marshmallow"})


def test_a_daemon_starts_without_its_document() -> None:
    assert "apispec" not in imported("import outlast.daemon.serve")


def test_nothing_of_terminals_is_there_before_there_is_one() -> None:
    show = "import sys; print(*(n for n in sys.modules if 'terminal' in n or 'recording' in n or n == 'termios'))"
    schemas = ("schemas.terminal_fields", "schemas.terminal_responses")
    routes = {f"outlast.api.{name}" for name in ("terminal_routes", "handlers.recording", *schemas)}
    for program, known in (
        ("outlast.daemon.serve", {*routes, "termios"}),  # it asks pipes how much is in them
        ("outlast.shim.server", set()),
        ("outlast.shim.launch.forker", set()),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", f"import {program}; {show}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert set(ran.stdout.split()) <= known, program


def test_the_demonstration_needs_no_developer_tool() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    tools = {re.split("[<>=]", each)[0].replace("-", "_") for each in groups["dev"]}
    assert imported("import examples.demo").isdisjoint(tools)
