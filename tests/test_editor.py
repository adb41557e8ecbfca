"""gilmsg as an editor, and the interpreter, see it."""

import pydoc

import gilmsg

from . import processes

COMPLETE = """
import rlcompleter, gilmsg
completer, found = rlcompleter.Completer({"gilmsg": gilmsg}), []
while (text := completer.complete("gilmsg.", len(found))) is not None:
    found.append(text.partition("(")[0])
assert found and sorted(set(found)) == sorted("gilmsg." + name for name in dir(gilmsg) if name[0] != "_"), found
"""


def test_help_begins_with_a_table_of_the_public_names():
    """Each public name of ours stands in the first 40 lines of help(gilmsg), in lines that fit into 120 columns."""
    lines = pydoc.plain(pydoc.render_doc(gilmsg)).splitlines()[:40]
    named = {name.strip() for line in lines for name in line[:28].split(",")}
    assert {name for name in gilmsg.__all__ if not name.startswith("_")} <= {part for name in named for part in name.split()}
    assert max(map(len, lines)) <= 135


def test_dir_shows_public_names_only():
    """No module that gilmsg itself imports, and no private name; each of these is there."""
    assert set(dir(gilmsg)) == {*gilmsg.__all__} - {"__local"}
    assert all(hasattr(gilmsg, name) for name in dir(gilmsg))
    assert [name for name in dir(gilmsg) if name.startswith("_")] == ["__version__"]


def test_completion_prints_nothing(tmp_path):
    """TAB after "gilmsg." loads what is loaded on first use; neither that nor moksha has anything to say, on either stream."""
    done = processes.python(COMPLETE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
