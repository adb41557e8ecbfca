"""README and the pages of docs/ as tests see them: their literal blocks, which test runs which, and what none can run."""

import functools
import re
import sys
import textwrap
from typing import NamedTuple

from ..processes import REPOSITORY

DOCS = REPOSITORY / "docs"

sys.path.append(str(DOCS / "ext"))
import commands

GENERATED = "reference/commands"

#: The pages: README, and those of docs/ by their path there.
NAMES = ["README", *sorted(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.rst"))]

#: (page, beginning of the block) -> why no test runs it. Ten at most.
NOT_RUN = {
    ("README", "python3 -m venv"): ".ci/run runs it word for word: it installs over the network, and runs this suite",
    ("tutorial", "$ python3 -m venv"): "it installs over the network from a repository that has no release yet",
    ("guides/deployment", "# python3 -m venv /opt/gilmsg"): "it installs over the network; the hosts of the test have this very gilmsg there",
    ("developing", "$ python3 -m venv"): "it installs over the network; .ci/run does so",
}

_DIRECTIVE = re.compile(r"(\s*)\.\. code-block:: (\w+)$")
_LITERAL = re.compile(r"(\s*)(?!\.\. )(.*)::$")


class Block(NamedTuple):
    """A literal block of a page."""

    page: str
    language: str
    caption: str
    text: str


@functools.cache
def text_of(page):
    """The text of a page, with what is made when Sphinx reads it."""
    path = REPOSITORY / "README.rst" if page == "README" else DOCS / f"{page}.rst"
    text = path.read_text(encoding="utf-8")
    if page == GENERATED:
        assert commands.PLACE in text
        text = text.replace(commands.PLACE, commands.as_rst())
    return text


@functools.cache
def blocks(page):
    """The literal blocks of a page, in order; a test holds that docutils finds the same."""
    lines, found, said = text_of(page).splitlines(), [], ""
    while lines:
        begin = _DIRECTIVE.match(lines[0]) or _LITERAL.match(lines[0])
        line = lines.pop(0)
        if not begin:
            said = line or said
            continue
        body = []
        while lines and (not lines[0].strip() or len(lines[0]) - len(lines[0].lstrip()) > len(begin[1])):
            body.append(lines.pop(0))
        caption = re.match(r"(?:\*(.+):\*)?", said)[1] or ""
        said = ""
        language = begin[2] if begin.re is _DIRECTIVE else "python"
        found.append(Block(page, language, caption, textwrap.dedent("\n".join(body)).strip("\n")))
    return found


#: What tests run, as `shown` has given it to them.
_run = []


def shown(page, begin):
    """The text of the one block of *page* that begins so, for a test that runs it: a parameter's default, as a rule."""
    [block] = [one for one in blocks(page) if one.text.startswith(begin)]
    _run.append(block)
    return block.text


def shown_all(page):
    """All blocks of *page* but for those that nothing can run, for a test that runs them."""
    found = [one for one in blocks(page) if not any(one.text.startswith(begin) for of, begin in NOT_RUN if of == page)]
    _run.extend(found)
    return tuple(found)


def not_run():
    """The blocks that no test of a module that is imported runs."""
    return [one for page in NAMES for one in blocks(page) if one not in _run]
