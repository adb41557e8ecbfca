"""README and the pages of docs/: they render, lead somewhere, say whom they are for, and hold nothing that no test runs."""

import html
import importlib.util
import io
import itertools
import re

import docutils.core
import docutils.nodes
import pytest
from docutils.parsers.rst import Directive, directives, roles

import gilmsg

from .. import test_shell, test_testing
from ..processes import REPOSITORY
from . import pages, test_blocks, test_deployment, test_terms, test_transcripts
from .pages import DOCS, GENERATED, NAMES, NOT_RUN, blocks, shown, shown_all, text_of

#: Those that say by `shown` what they run.
MODULES = (test_blocks, test_deployment, test_shell, test_terms, test_testing, test_transcripts)


OPTIONS = dict.fromkeys(("hidden", "caption", "members", "inherited-members", "exclude-members"), directives.unchanged)


class Nothing(Directive):
    """Stands for a directive of Sphinx's."""

    optional_arguments, final_argument_whitespace, has_content, option_spec = 9, True, True, OPTIONS

    def run(self):
        return []


for name in ("toctree", "program", "option", "currentmodule", *(f"auto{kind}" for kind in ("class", "exception", "function", "method", "module"))):
    directives.register_directive(name, Nothing)
for name in ("doc", "ref", "class", "func", "meth"):
    roles.register_generic_role(name, docutils.nodes.literal)


def document(text):
    """The document tree of *text*, and docutils' warnings."""
    warnings = io.StringIO()
    settings = {"report_level": 1, "warning_stream": warnings, "file_insertion_enabled": False}
    return docutils.core.publish_doctree(text, settings_overrides=settings), warnings.getvalue()


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst", "examples/README.rst"])
def test_it_renders_without_a_warning(name):
    """docutils, as on the package index, has nothing to say about it, not even at the level of information."""
    assert document((REPOSITORY / name).read_text(encoding="utf-8"))[1] == ""


def test_the_blocks_are_those_that_docutils_finds():
    """Each literal block of each page is found, and nothing else."""
    for page in NAMES:
        if page != "changelog":  # which includes
            tree, _ = document(text_of(page))  # docutils' own code-block, as on GitHub: one with a caption would be lost there
            found = [block.astext() for block in tree.findall(docutils.nodes.literal_block)]
            assert [block.text for block in blocks(page)] == found, page


def test_every_block_is_run_by_a_test():
    """Each literal block is one that a test takes by `shown`, or stands in the list of ten that none can run, with the reason."""
    assert len(NOT_RUN) <= 10 and all(NOT_RUN.values())
    left = [(block.page, block.text) for block in pages.not_run()]
    for page, begin in NOT_RUN:
        [block] = [one for one in left if one[0] == page and one[1].startswith(begin)]
        left.remove(block)
    assert left == [], f"no test takes these by shown(), of {', '.join(one.__name__ for one in MODULES)}"


def test_readme_is_short_and_its_links_lead_somewhere():
    """At most 200 lines; each file that is linked is there, and each page but for the generated ones is linked."""
    text = text_of("README")
    assert len(text.splitlines()) <= 200
    links = set(re.findall(r"<([^<>]+)>`_", text))
    assert [link for link in links if not (REPOSITORY / link).is_file()] == []
    apart = {"index", "changelog", GENERATED, "reference/api"}
    assert {f"docs/{page}.rst" for page in set(NAMES) - apart - {"README"}} <= links


def test_each_page_says_whom_it_is_for():
    """Its first sentence does, but README's, and is no title."""
    for page in set(NAMES) - {"README", "changelog"}:
        assert re.match(r"[^\n]+\n=+\n\nFor (whoever|everybody)\b[^.]+[.:]", text_of(page)), page


def test_each_page_is_in_the_table_of_contents():
    """Whoever looks for a page finds it beside the others."""
    listed = set(re.findall(r"^   ([\w/]+)$", text_of("index"), re.MULTILINE))
    assert listed == set(NAMES) - {"README", "index"}


def test_the_modules_that_are_named_exist(picture=shown("developing", "  your code")):
    """Whoever reads the code by the page on it finds each module, and each room, that it sends him to."""
    words = re.findall(r"``([^`]+)``", text_of("developing")) + re.findall(r"\b_?[a-z]+/", picture)
    named = {word.rstrip("/") for word in words if re.match(r"_[a-z_]+(/[a-z_]*)?\Z|\w+/\Z", word)} - {"docs", "gilmsg"}
    home = REPOSITORY / "gilmsg" if (REPOSITORY / "gilmsg").is_dir() else test_blocks.pathlib.Path(gilmsg.__file__).parent
    assert len(named) > 5
    assert not [one for one in named if not (home / one).is_dir() and not (home / (one + ".py")).is_file()]


def test_the_picture_is_what_its_source_says(text=shown("explanation/promise", "success")):
    """docs/publish.svg and the text form are made of docs/publish.seq; README and the site show the picture."""
    spec = importlib.util.spec_from_file_location("sequence", str(DOCS / "sequence.py"))
    sequence = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sequence)
    drawn = sequence.parsed((DOCS / "publish.seq").read_text(encoding="utf-8"))
    assert (DOCS / "publish.svg").read_text(encoding="utf-8") == sequence.as_svg(*drawn)
    assert text == sequence.as_text(*drawn).rstrip()
    assert all("publish.svg" in text_of(page) for page in ("README", "index", "explanation/promise"))


def test_what_help_shows_is_understood(generated=shown_all(GENERATED)):
    """Each example in a --help, and so in the reference, is one that the command's own parser takes; each command has one."""
    parsers = pages.commands.parsers()
    tried = set()
    for block in generated:
        for line in block.text.splitlines() if block.language == "console" else []:
            assert line.startswith("$ ")
            for command, words in test_transcripts.typed(line[2:]):
                if command in parsers:
                    own = itertools.takewhile(lambda word: word not in ("--", ">>"), words)  # what follows is another's
                    parsers[command].parse_args(list(own))
                    tried.add(command)
    assert tried == {command for command in parsers if " " not in command}


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """.ci/docs makes it without a warning, every reference found; generated and written pages are in it."""
    pytest.importorskip("furo")
    done = test_blocks.processes.run([str(REPOSITORY / ".ci" / "docs"), test_blocks.sys.executable, str(tmp_path)], limit=200)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert all((tmp_path / f"{page}.html").is_file() for page in set(NAMES) - {"README"})
    assert "--metrics-port" in (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    interface = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    code = re.findall(r'highlight-python3 notranslate">(.*?)</pre>', interface, re.DOTALL)
    code = {html.unescape(re.sub("<[^>]+>", "", one)).strip() for one in code}
    assert code == set(test_blocks.DOCSTRINGS.values())
