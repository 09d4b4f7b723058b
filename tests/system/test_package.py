"""The package, away from the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("outlast-*.whl")
    return built


def test_the_wheel_holds_what_it_needs_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {path.name for path in (ROOT / "migrations" / "sqlite").glob("*.sql")}
    assert {f"outlast/_migrations/sqlite/{name}" for name in migrations} <= names
    assert any(name.startswith("outlast/api/static/") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"outlast"}


@pytest.mark.slow
async def test_it_works_in_an_environment_of_its_own(wheel: Path, state_dir: Path, tmp_path: Path) -> None:
    """An own environment with the wheel; what it depends on is lent by the one that runs the tests."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, str(wheel)], check=True)
    lent = Path(sysconfig.get_path("purelib"))
    for entry in lent.iterdir():  # all but our own editable install
        if entry.suffix != ".pth" and "outlast" not in entry.name and not (Path(site) / entry.name).exists():
            (Path(site) / entry.name).symlink_to(entry)
    daemon = Daemon(state_dir)
    daemon.command = [str(python), "-P", "-m", "outlast"]
    before = Path.cwd()
    os.chdir("/")
    try:
        await daemon.start()
        process = await daemon.sh("echo packaged")
        await daemon.ended(process)
        assert await daemon.lines(process) == ["packaged"]
        where = [str(python), "-P", "-c", "import outlast; print(outlast.__file__)"]
        loaded = subprocess.run(where, capture_output=True, check=True)
        assert loaded.stdout.decode().startswith(site)
    finally:
        await daemon.end_everything()
        os.chdir(before)
