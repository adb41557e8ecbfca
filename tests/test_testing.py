"""gilmsg.testing and its pytest plugin, in real pytest runs."""

import os
import re
import shutil
import sys

import psutil
import pytest

from .docs.pages import shown
from .helpers import REPOSITORY as ROOT
from .processes import module, python, run

pytest_plugins = ["pytester"]


@pytest.fixture
def inner(pytester, monkeypatch):
    """Run a file of tests in a pytest of its own, with this tree's plugin."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)

    def run(*arguments, plugin="-ppytest_gilmsg"):
        options = ["-Werror", "--strict-markers", "-pno:hypothesispytest", "-pno:randomly", plugin]
        return pytester.runpytest_subprocess(*options, *arguments, timeout=100)

    return run


def copied(pytester, name):
    """Have a module of tests.programs in pytest's folder, away from the conftest here; return its name there."""
    return shutil.copy(ROOT / "tests" / "programs" / f"{name}.py", pytester.path / f"test_{name}.py")


@pytest.mark.slow
def test_the_bus(pytester, inner):
    """gilmsg_bus is a real bus whose state is one test's."""
    inner(copied(pytester, "with_bus")).assert_outcomes(passed=10)


@pytest.mark.slow
def test_the_former_state_returns(pytester, inner):
    """Contexts of any thread, configuration, threads and sockets are afterwards what they were before."""
    # load_config warns of itself, as ever.
    inner("-Wignore::DeprecationWarning", copied(pytester, "with_state")).assert_outcomes(passed=4)


@pytest.mark.slow
def test_forbidden(pytester, inner):
    """Any publish raises PublishForbidden from the call itself; the plugin imports nothing unasked."""
    result = inner(copied(pytester, "with_forbidden"))
    result.assert_outcomes(passed=14, failed=1, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*PublishForbidden: gilmsg was to publish on the topic 'x'*",
            "*at least one common name*",
            "*'../x' cannot be the name*",
            "*gilmsg_recipients holds *'a', 'b'*; each entry must be a certificate common name*",
        ]
    )


#: The files of the example: each begins with its name.
EXAMPLE = {name: shown("guides/testing", f"# {name}") for name in ("compose.py", "test_compose.py", "other_runner.py")}


@pytest.mark.slow
def test_the_example_of_the_page(pytester, inner):
    """The example runs as it stands in guides/testing, and on several workers of pytest-xdist."""
    for name, text in EXAMPLE.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    tests = len(re.findall("^def test_", EXAMPLE["test_compose.py"], re.MULTILINE))
    assert tests >= 3
    inner("-n2", "test_compose.py").assert_outcomes(passed=tests)
    done = python("import other_runner", pytester.path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "end", ["fork", *(pytest.param(end, marks=pytest.mark.slow) for end in ("exit", "error", "close", "with"))]
)
def test_buses_leave_nothing_behind(tmp_path, end):
    """However a program ends that used Buses: no process runs on, and no keys stay in the temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = module("tests.programs.unclosed", end, cwd=tmp_path, env={"TMPDIR": str(temporary)})
    assert done.returncode == (end == "error"), done.stderr
    pid, directory = done.stdout.split()
    assert directory.startswith(str(temporary))
    assert not list(temporary.iterdir())
    assert not psutil.pid_exists(int(pid))


WITHOUT_PYTEST = """
import importlib.metadata, sys
sys.modules["pytest"] = None
import gilmsg.testing
for one in importlib.metadata.distribution("gilmsg").entry_points:
    if one.name == "gilmsg-sandbox":
        print(one.load().__module__)
with gilmsg.testing.forbidden():
    gilmsg.publish(topic="the.topic")
"""


@pytest.mark.slow
def test_the_entry_points(inner, tmp_path, monkeypatch):
    """Installed, pytest finds the plugin by itself; gilmsg.testing and gilmsg-sandbox do without pytest."""
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    if (ROOT / "gilmsg").is_dir():  # else an installed gilmsg is tested (.ci/release), by its own metadata
        made = run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(metadata)], ROOT)
        assert made.returncode == 0, made.stderr
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(metadata), str(ROOT)]))
    result = inner("--fixtures", plugin="-pno:cacheprovider")
    result.stdout.fnmatch_lines_random(["gilmsg_bus*", "gilmsg_forbidden*"])
    done = python(WITHOUT_PYTEST, metadata)
    assert done.stdout == "gilmsg.commands.sandbox\n", done.stderr
    assert "PublishForbidden" in done.stderr.splitlines()[-1] and "the.topic" in done.stderr
