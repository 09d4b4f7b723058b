"""The shim and its fork helper are small: they import nothing that they could do without."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import outlast
from outlast.shim import __main__ as shim_main


def test_the_fork_helper_imports_next_to_nothing() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import outlast.shim.launch.forker; print('\\n'.join(sys.modules))"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, str(Path(outlast.__file__).parents[1])]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    # Every process that is started begins as a copy of the helper.
    assert not set(output.split()) & {"typing", "pathlib", "contextlib", "re", "json", "tempfile", "subprocess"}


def test_the_shim_imports_the_standard_library_only() -> None:
    program = "import sys; import outlast.shim.__main__; print('\\n'.join(sys.modules))"
    output = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in output.split()}
    third_party = {name for name in loaded & set(packages_distributions()) if name != "outlast"}
    started_by_site = {name for name in third_party if name.startswith(("_", "sitecustomize"))}
    assert third_party - started_by_site == set()
    assert not loaded & {"asyncio", "uvloop", "sqlite3", "http", "ssl", "logging"}
    # These take as much memory as all modules of the shim, and a fork copies the page tables of all of it.
    assert not loaded & {"dataclasses", "hashlib", "inspect"}
    assert shim_main.main
