"""Which configuration files fedmsg reads."""

import warnings

import fedmsg.config
import pytest

import gilmsg
from gilmsg import _config_files


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_files_are_those_that_fedmsg_reads(tmp_path, monkeypatch, elsewhere):
    """They are what fedmsg itself opens in that directory, in its order: of singles, folders, home, virtualenv."""
    for place in ("home/.fedmsg.d", "here/fedmsg.d", "venv/etc/fedmsg.d"):
        (tmp_path / place).mkdir(parents=True)
        for name in ("b.py", "a.py", "c.txt"):
            (tmp_path / place / name).write_text("config = {'endpoints': {}}")
    for single in ("home/.fedmsg-config.py", "here/fedmsg-config.py"):
        (tmp_path / single).write_text("config = {}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    here = tmp_path / "here"
    found = _config_files.found_in(str(here)) if elsewhere else None
    monkeypatch.chdir(here)
    if not elsewhere:
        found = _config_files.found_in()

    read, real = [], fedmsg.config.execfile
    # A spy, at the border to the library.
    monkeypatch.setattr(fedmsg.config, "execfile", lambda name, *more: read.append(name) or real(name, *more))
    fedmsg.config._process_config_file()
    assert read == found
    assert len([one for one in found if one.startswith(str(tmp_path))]) == 8


@pytest.fixture
def said(tmp_path):
    """A function that writes a file of fedmsg.d; returns its path."""

    def write(text, name="a.py"):
        path = tmp_path / "fedmsg.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("endpoints", [{}, {"endpoints": {}}])
@pytest.mark.parametrize(
    "text, problem",
    [
        ("config = {'a': int('x')}", "ValueError: invalid literal for int"),
        ("import json; config = json.loads('{')", "JSONDecodeError: "),
        (b"config = {'a': '\xff'}", "UnicodeDecodeError: "),
        ("import os; config = {'a': os.environ['NO_SUCH_VARIABLE']}", "KeyError: 'NO_SUCH_VARIABLE'"),
        ("config = {", "SyntaxError: "),
        ("raise RuntimeError", "RuntimeError: "),
        ("conf = {}", "it defines no 'config'"),
        ("config = {'config_filename': 'missing.py'}", "missing.py: it cannot be read: FileNotFoundError: "),
        ("config = {'endpoints': [1]}", "endpoints: it must be a dict; it is [1]"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(said, text, problem, endpoints):
    """Whatever comes out of it, and whoever names endpoints: a ConfigurationError with file and problem."""
    path = said(text)
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        gilmsg.init(name="x", environment="dev", **endpoints)
    assert problem in str(raised.value)
    assert path in str(raised.value) or "config_filename" in text or "endpoints" in text
    assert problem in str(_config_files.load(endpoints).problems)
    assert _config_files.kept() == {}


def test_where_only_endpoints_are_missing_those_given_will_do(said):
    """What the files say of everything else holds; and the next one who names none is told."""
    said("config = {'environment': 'prod', 'sign_messages': False, 'zmq_enabled': True, 'a': {'b': 1}}")
    said("config = {'a': {'c': 2}}", "b.py")
    mine = {"me": ["tcp://127.0.0.1:1"]}
    config = gilmsg.init(name="me", mute=True, endpoints=mine).c
    assert (config["environment"], config["a"], config["endpoints"]) == ("prod", {"b": 1, "c": 2}, mine)
    assert config["topic_prefix"] == "org.fedoraproject"  # by default
    gilmsg.destroy()
    with pytest.raises(gilmsg.ConfigurationError, match="endpoints: no configuration file sets it .looked in /etc"):
        gilmsg.init(name="me", mute=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # fedmsg's, of the file that it passes over
def test_what_fedmsg_passes_over_is_passed_over(said):
    """A file that cannot be opened stops nothing, as with fedmsg; it is told where that may be why endpoints lack."""
    said("config = {'environment': 'prod'}")
    path = said("open('/no/such/file'); config = {'endpoints': {}}", "b.py")
    assert gilmsg.init(name="me", mute=True, endpoints={}).c["environment"] == "prod"
    gilmsg.destroy()
    with pytest.raises(gilmsg.ConfigurationError, match="%s: it cannot be read: FileNotFoundError" % path):
        gilmsg.init(name="me", mute=True)


def test_a_warning_that_is_to_be_an_error_stays_one(said):
    """Under -W error what load_config warns of, itself among it, is raised as it is."""
    said("config = {'endpoints': {}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning):
            gilmsg.init(name="me", mute=True)
