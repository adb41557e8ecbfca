"""The benchmarks run, and say what they found where they were asked to."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree

import pytest

from ..helpers import REPOSITORY
from ..processes import module
from .hops import WAYS
from .steps import STEPS
from .studies import STUDIES


def benchmarks(*arguments):
    # The tree, which may be another than the one of the gilmsg that is tested, is on the path by being the folder.
    return module("tests.benchmarks", *arguments, flags=["-W", "ignore"], cwd=REPOSITORY, limit=300)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_each_study_measures(study):
    """Each study ends, its figures are numbers, JSON alone is on stdout; with --check the status tells of misses."""
    done = benchmarks("--quick", "--check", "--json", "--only", study)
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert figures or study == "others"
    assert all(math.isfinite(figure["value"]) for figure in figures)
    assert done.returncode == any(figure["met"] is False for figure in figures)
    assert study in done.stderr


@pytest.mark.slow
def test_the_steps_of_a_publish_follow_each_other():
    """Each step of each message, ours and the floor's, ends no earlier than it began, in whatever process."""
    done = module("tests.benchmarks.steps", "--json", "2", "5", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert sorted(taken) == ["floor", "ours"]
    for messages in taken.values():
        assert len(messages) == 10
        for one in messages:
            # One that wakes up at once may be ahead of the sender's own note that it has sent.
            for _, begin, end in STEPS + [("", "signed", "(decode)"), ("", "(signed)", "decode")]:
                assert one[begin] <= one[end] or begin.strip("()") == "sent"


@pytest.mark.slow
def test_the_floor_runs_with_engines_of_its_own():
    """It is confirmed with an engine thread in the publisher, and at both ends, beside gilmsg; one by one, and at once."""
    done = module("tests.benchmarks.hops", "2", "5", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    for found in done.stdout.split("\n\n"):
        rows = [line.rsplit(None, 2) for line in found.splitlines()[1:]]
        assert [name for name, _, _ in rows] == list(WAYS)
        assert all(float(microseconds) > 0 for _, microseconds, _ in rows)


def figure(name, value, goal="", worthy=False):
    return {"name": name, "value": value, "unit": "x", "goal": goal, "note": "", "worthy": worthy}


@pytest.fixture
def earlier(tmp_path):
    """The file with what was found earlier."""
    machine = {"processor": "P", "cores": 2, "load": 0.1, "system": "S", "python": "3", "libraries": "L"}
    figures = [
        figure("a / b", 2.5, "<= 2"), figure("c / d", 2.5, ">= 2"),
        figure("worthy", 123.4, worthy=True), figure("private", 1),
    ]
    curves = {"latency": {"one lane": [0.002, 0.001]}, "recipients": {"all of them": {1: 0.003, 10: 0.02}}}
    path = tmp_path / "earlier"
    path.write_text(json.dumps({"command": "c", "machine": machine, "figures": figures, "curves": curves}))
    return str(path)


@pytest.mark.slow
def test_earlier_figures_become_tables(earlier, tmp_path):
    """--from measures nothing; --rst renews the page's table between its comments alone."""
    page = tmp_path / "performance.rst"
    text = (REPOSITORY / "docs" / "explanation" / "performance.rst").read_text()
    page.write_text(text)
    done = benchmarks("--from", earlier, "--rst", str(page))
    assert done.returncode == 0, done.stderr
    assert benchmarks("--from", earlier, "--check").returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines if " / " in line] == ["MISSED", "met"]
    assert "private" in done.stdout
    before, _, rest = text.partition(".. What follows is written by tests.benchmarks --rst.\n")
    after = rest.partition(".. End of what is written.\n")[2]
    renewed = page.read_text()
    assert rest and after and renewed.startswith(before) and renewed.endswith(after)
    table = renewed[len(before):len(renewed) - len(after)]
    assert "``c`` on P, 2 cores" in table and "123 x" in table and "private" not in table


@pytest.mark.slow
def test_earlier_figures_become_a_picture(earlier, tmp_path):
    """--svg draws what there is."""
    drawn = tmp_path / "plot.svg"
    assert benchmarks("--from", earlier, "--svg", str(drawn)).returncode == 0
    picture = xml.etree.ElementTree.parse(str(drawn)).getroot()
    assert picture.tag.endswith("}svg")
    # matplotlib draws letters as paths, and says in a comment what they spell.
    assert all(f"<!-- {name} -->" in drawn.read_text() for name in ("one lane", "all of them"))
