"""Run the tests again and again, and count which of them fail: `python -m tools.flakes --runs 10 [--load] [PATH ...]`.

With `--load`, every second run has company: one process for each processor that computes, and one that writes to disk.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

_COMPUTE = "while True: pass"
_WRITE = """
import os, sys
with open(sys.argv[1], "wb") as file:
    while True:
        file.seek(0)
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
"""


def main() -> int:
    """Run the tests as the command line says. Return 1 if any test failed in any run."""
    parser = argparse.ArgumentParser(prog="tools.flakes", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="number of runs (default 10)")
    parser.add_argument("--load", action="store_true", help="load the machine during every second run")
    parser.add_argument("paths", nargs="*", default=["tests"], help="tests to run (default: all)")
    given = parser.parse_args()
    failures: Counter[str] = Counter()
    for number in range(1, given.runs + 1):
        is_loaded = given.load and number % 2 == 0
        with tempfile.TemporaryDirectory() as folder, _load(Path(folder)) if is_loaded else contextlib.nullcontext():
            failed, summary = _run(given.paths, Path(folder) / "report.xml")
        failures.update(failed)
        sys.stdout.write(f"run {number}{', loaded' * is_loaded}: {summary}\n")
        sys.stdout.writelines(f"  failed: {name}\n" for name in failed)
        sys.stdout.flush()
    sys.stdout.write(f"{given.runs} runs, {len(failures)} tests that failed at least once\n")
    sys.stdout.writelines(f"  {count} of {given.runs}: {name}\n" for name, count in failures.most_common())
    return 1 if failures else 0


def _run(paths: list[str], report: Path) -> tuple[list[str], str]:
    """Run the tests once. Return the names of those that failed, and a summary."""
    parallel = ["--numprocesses", "auto", "--dist", "worksteal"]
    command = [sys.executable, "-m", "pytest", "--quiet", *parallel, f"--junit-xml={report}", *paths]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # noqa: S603 - our own command
    if not report.exists():
        raise SystemExit(f"pytest did not run:\n{done.stdout}")
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote the file
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if failed:
        sys.stdout.write(done.stdout)
    return failed, f"{len(cases)} tests, {len(failed)} failed"


@contextlib.contextmanager
def _load(folder: Path) -> Iterator[None]:
    """Keep all processors and the disk busy."""
    commands = [[sys.executable, "-c", _COMPUTE]] * (os.cpu_count() or 1)
    commands.append([sys.executable, "-c", _WRITE, str(folder / "written")])
    with contextlib.ExitStack() as processes:
        for command in commands:
            process = processes.enter_context(subprocess.Popen(command))  # noqa: S603 - our own commands
            processes.callback(process.kill)
        yield


if __name__ == "__main__":
    sys.exit(main())
