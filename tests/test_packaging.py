"""The sdist and the wheel hold what they should, and both can be installed."""

import configparser
import os
import shutil
import sys
import tarfile
import zipfile

import pytest

from .processes import REPOSITORY, run

pytestmark = pytest.mark.slow

#: What is not part of the sources.
IGNORED = shutil.ignore_patterns(".*cache", ".venv*", ".git", ".tox", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with one sdist and one wheel, built from a copy of this tree."""
    tree = tmp_path_factory.mktemp("build") / "tree"
    shutil.copytree(str(REPOSITORY), str(tree), ignore=IGNORED)
    done = run([sys.executable, "setup.py", "-q", "sdist", "bdist_wheel"], tree, limit=120)
    assert done.returncode == 0, done.stderr
    return tree / "dist"


def only(folder, pattern):
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def test_the_wheel_holds_the_package_and_registers_its_entry_points(built):
    """Nothing but gilmsg, type marker, and pytest's plugin; each command, that plugin, and fedmsg.meta's processor."""
    wheel = zipfile.ZipFile(str(only(built, "*.whl")))
    names = wheel.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"gilmsg", "pytest_gilmsg.py"}
    assert "gilmsg/py.typed" in names
    name = next(name for name in names if name.endswith("entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_string(wheel.read(name).decode())
    assert dict(points["fedmsg.meta"]) == {"gilmsg": "gilmsg._meta:GilmsgProcessor"}
    assert dict(points["pytest11"]) == {"pytest_gilmsg": "pytest_gilmsg"}
    commands = ("check", "demo", "logger", "outbox", "pki", "sandbox", "tail")
    assert dict(points["console_scripts"]) == {"gilmsg-" + n: f"gilmsg.commands.{n}:main" for n in commands}
    assert set(points.sections()) == {"fedmsg.meta", "pytest11", "console_scripts"}


def test_the_sdist_can_reproduce_the_tests(built):
    """It holds every file of the tests, their configuration, the example, README, licence and changelog."""
    archive = only(built, "*.tar.gz")
    with tarfile.open(str(archive)) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tests = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "tests").rglob("*.py")}
    assert tests <= names
    assert {f"examples/{path.name}" for path in (REPOSITORY / "examples").iterdir() if path.is_file()} <= names
    assert "fedmsg.d/gilmsg.py" in names
    assert {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*") if path.suffix in (".rst", ".py", ".css")} <= names
    assert {"README.rst", "CHANGELOG.rst", "LICENSE", "tox.ini", ".ci/run", "setup.py"} <= names


@pytest.mark.parametrize("pattern", ["*.tar.gz", "*.whl"])
def test_it_can_be_installed(built, tmp_path, pattern):
    """pip installs it, and what was installed imports and knows its version."""
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    # The dependencies are in place already, and so is what builds: nothing is downloaded here.
    command += ["--no-build-isolation", "--target", str(target), str(only(built, pattern))]
    done = run(command, limit=120)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run([sys.executable, "-c", "import gilmsg; print(gilmsg.__file__)"], env={"PYTHONPATH": str(target)})
    assert done.stdout.strip() == os.path.join(str(target), "gilmsg", "__init__.py"), done.stderr
