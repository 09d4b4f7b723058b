"""Measure every interpreter that a test starts: `make coverage` puts this folder on PYTHONPATH.

The shim gets PYTHONPATH from its daemon, and not the variables by which coverage finds its configuration.
"""

import os
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[3]
os.environ.setdefault("COVERAGE_PROCESS_START", str(ROOT / "pyproject.toml"))
os.environ.setdefault("COVERAGE_FILE", str(ROOT / ".coverage"))
coverage.process_startup()
