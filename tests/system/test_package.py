"""The package, away from the checkout: sdist, wheel, editable install, and folders that have an `app` of their own."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from outlast import __version__
from tests.support.daemon import QUICK, Daemon

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
DATA = f"outlast-{__version__}.data"
BROKEN = "raise AssertionError('a module of the folder was imported')\n"


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which Outlast is installed. Its dependencies are lent by the one that runs the tests."""

    bin: Path
    site: Path

    @classmethod
    def create(cls, folder: Path, *install: str) -> "Environment":
        venv.create(folder, with_pip=False)
        (site,) = folder.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", *install], check=True)
        for entry in Path(sysconfig.get_path("purelib")).iterdir():  # all but our own editable install
            if entry.suffix != ".pth" and "outlast" not in entry.name and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
        return cls(folder / "bin", site)

    def run(self, folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        words = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(
            words, cwd=folder, env={**clean, **QUICK, **environment}, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("outlast-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.create(tmp_path_factory.mktemp("installed"), "--no-index", str(wheel))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with packages called `app`, `tests` and `harness`, none of which can be imported."""
    project = tmp_path / "project"
    for name in ("app", "tests", "harness"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(BROKEN)
    return project


def test_the_wheel_holds_one_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"outlast", f"outlast-{__version__}.dist-info", DATA}
    # Nothing in there is importable: the files of config/ go to PREFIX/share/outlast, those of docs/ to a folder in it.
    config = {path.name for path in (ROOT / "config").iterdir()}
    docs = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*") if path.is_file()}
    data = {f"{DATA}/data/share/outlast/{name}" for name in config | docs}
    assert {name for name in names if name.startswith(DATA)} == data


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("outlast/")}
    source = ROOT / "app" / "outlast"
    code = {f"outlast/{path.relative_to(source)}" for path in source.rglob("*") if path.is_file()}
    migrations = {
        f"outlast/_migrations/{path.relative_to(ROOT / 'migrations')}" for path in (ROOT / "migrations").rglob("*.sql")
    }
    assert {"outlast/py.typed", "outlast/__main__.py"} <= names
    assert names == {name for name in code if "__pycache__" not in name} | migrations


def test_the_wheel_of_the_checkout_is_that_of_the_sdist(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (direct,) = tmp_path.glob("outlast-*.whl")
    from_sdist, from_checkout = zipfile.ZipFile(wheel), zipfile.ZipFile(direct)
    assert {each.filename: each.CRC for each in from_sdist.infolist()} == {
        each.filename: each.CRC for each in from_checkout.infolist()
    }


def test_an_app_folder_does_not_disturb_the_command(installed: Environment, folder: Path) -> None:
    for environment in ({}, {"PYTHONPATH": "."}, {"PYTHONPATH": str(folder)}):
        for command in (["outlast"], ["python", "-m", "outlast"], ["python", "-P", "-m", "outlast"]):
            ran = installed.run(folder, *command, "--version", **environment)
            assert ran.stdout.strip().endswith(__version__), (command, environment, ran)


def test_an_outlast_module_in_the_folder_does_not_disturb_the_command(installed: Environment, folder: Path) -> None:
    """A console script does not look for modules in the current folder, and `-P` asks the same of Python.

    Not promised: `python -m outlast` without `-P`, and PYTHONPATH with such a folder. Python itself puts these folders
    before all that is installed, for every package.
    """
    (folder / "outlast.py").write_text(BROKEN)
    for command in (["outlast"], ["python", "-P", "-m", "outlast"]):
        ran = installed.run(folder, *command, "--version")
        assert ran.stdout.strip().endswith(__version__), (command, ran)


def test_python_itself_prefers_an_outlast_module_on_its_path(installed: Environment, folder: Path) -> None:
    """Python's own rule, and the reason why the test above promises no more."""
    (folder / "outlast.py").write_text(BROKEN)
    assert BROKEN.split("'")[1] in installed.run(folder, "outlast", "--version", PYTHONPATH=".").stderr
    assert BROKEN.split("'")[1] in installed.run(folder, "python", "-m", "outlast", "--version").stderr


async def test_a_daemon_runs_in_a_folder_with_an_outlast_module(
    installed: Environment, folder: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon, its shim and the fork helper all come from the installed package."""
    (folder / "outlast.py").write_text(BROKEN)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    daemon = Daemon(state_dir)
    daemon.command = [str(installed.bin / "outlast")]
    try:
        await daemon.start()
        process = await daemon.sh("echo packaged")
        await daemon.ended(process)
        assert await daemon.lines(process) == ["packaged"]
        assert "forks by itself" not in (state_dir / "shim.log").read_text()
    finally:
        await daemon.end_everything()


def test_the_package_is_the_installed_one(installed: Environment, folder: Path) -> None:
    where = installed.run(folder, "python", "-P", "-c", "import outlast; print(outlast.__file__)")
    assert Path(where.stdout.strip()) == installed.site / "outlast" / "__init__.py"


def test_the_package_is_typed(installed: Environment, folder: Path) -> None:
    (folder / "plugin.py").write_text("from outlast.storage import Storage\nreveal_type(Storage.open)\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(installed.bin / "python"), "plugin.py"]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Revealed type is" in checked.stdout
    assert "missing library stubs or py.typed" not in checked.stdout


def test_an_editable_install_runs_the_checkout(folder: Path, tmp_path: Path) -> None:
    editable = Environment.create(tmp_path / "editable", "--editable", str(ROOT))
    ran = editable.run(folder, "outlast", "--version", PYTHONPATH=".")
    assert ran.stdout.strip().endswith(__version__), ran
    where = editable.run(folder, "python", "-P", "-c", "import outlast; print(outlast.__file__)")
    assert Path(where.stdout.strip()) == ROOT / "app" / "outlast" / "__init__.py"
