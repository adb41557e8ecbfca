"""fedmsg's configuration: which files it is read from, what is wrong with them, and the shapes of values."""

import fedmsg.config
import pytest

from gilmsg import _settings
from gilmsg.errors import ConfigurationError

#: load_config says that it is deprecated; there is no other way to these files.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder, and a process that has loaded no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setattr(fedmsg.config, "__cache", {})


def test_the_files_are_those_that_fedmsg_reads(tmp_path, monkeypatch):
    """They are what fedmsg itself opens in that directory, in its order: of singles, folders, home, virtualenv."""
    for place in ("home/.fedmsg.d", "here/fedmsg.d", "venv/etc/fedmsg.d"):
        (tmp_path / place).mkdir(parents=True)
        for name in ("b.py", "a.py", "c.txt"):
            (tmp_path / place / name).write_text("config = {'endpoints': {}}")
    for single in ("home/.fedmsg-config.py", "here/fedmsg-config.py"):
        (tmp_path / single).write_text("config = {}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    found = _settings.found_in(str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path / "here")
    assert found == _settings.found_in()
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
        ("config = {", "SyntaxError: "), ("raise RuntimeError", "RuntimeError: "),
        ("conf = {}", "it defines no 'config'"),
        ("config = {'config_filename': 'missing.py'}", "missing.py: it cannot be read: FileNotFoundError: "),
        ("config = {'endpoints': [1]}", "endpoints: it must be a dict; it is [1]"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(said, text, problem, endpoints):
    """Whatever comes out of it, and whoever names endpoints: a ConfigurationError with file and problem."""
    path = said(text)
    with pytest.raises(ConfigurationError) as raised:
        _settings.current(endpoints)
    assert problem in str(raised.value)
    assert path in str(raised.value) or "config_filename" in text or "endpoints" in text
    assert problem in str(_settings.load(endpoints).problems)
    assert _settings.kept() == {}


def test_where_only_endpoints_are_missing_those_given_will_do(said):
    """What the files say of everything else holds; and the next one who names none is told."""
    said("config = {'environment': 'prod', 'sign_messages': False, 'zmq_enabled': True, 'a': {'b': 1}}")
    said("config = {'a': {'c': 2}}", "b.py")
    mine = {"me": ["tcp://127.0.0.1:1"]}
    for config in (_settings.current({"endpoints": mine}), _settings.load({"endpoints": mine}).config):
        assert (config["environment"], config["a"]) == ("prod", {"b": 1, "c": 2})
        assert config["topic_prefix"] == "org.fedoraproject"  # by default
    assert config["endpoints"] == mine
    with pytest.raises(ConfigurationError, match="endpoints: no configuration file sets it .looked in /etc"):
        _settings.current({})


@pytest.mark.filterwarnings("ignore::UserWarning")  # fedmsg's, of the file that it passes over
def test_what_fedmsg_passes_over_is_passed_over(said):
    """A file that cannot be opened stops nothing, as with fedmsg; it is told where that may be why endpoints lack."""
    said("config = {'environment': 'prod'}")
    path = said("open('/no/such/file'); config = {'endpoints': {}}", "b.py")
    assert _settings.current({"endpoints": {}})["environment"] == "prod"
    with pytest.raises(ConfigurationError, match=f"{path}: it cannot be read: FileNotFoundError"):
        _settings.current({})


def test_files_add_up_and_are_kept(said):
    """Files of several consumers add up; of one topic the last file's list counts alone, as reference/keys says."""
    said("config = {'endpoints': {}, 'gilmsg.recipients': {'org.one': ['alice'], 'org.two': ['alice']}}")
    said("config = {'gilmsg.recipients': {'org.two': ['bob']}}", "b.py")
    assert _settings.load({}).config["gilmsg.recipients"] == {"org.one": ["alice"], "org.two": ["bob"]}
    assert _settings.kept() == {}
    config = _settings.current({})
    assert config is _settings.kept() and config["gilmsg.recipients"] == {"org.one": ["alice"], "org.two": ["bob"]}


def test_a_look_sees_the_files_as_they_are(said):
    """It keeps nothing; once fedmsg keeps a configuration, that is what is told, with what overrides it."""
    path = said("config = {'endpoints': {}, 'environment': 'prod'}")
    found = _settings.load({"name": "me"})
    assert found.files == [path] and found.problems == []
    assert (found.config["environment"], found.config["name"]) == ("prod", "me")
    said("config = {'endpoints': {}, 'environment': 'stg'}")
    assert _settings.load({}).config["environment"] == "stg"
    _settings.replace({"environment": "kept"})
    assert _settings.load({"name": "me"}).config["environment"] == "kept"
    assert "name" not in _settings.kept()
    other = said("config = {'endpoints': {}, 'environment': 'other'}", "other.txt")
    chosen = _settings.load({"config_filename": other})
    assert (chosen.files, chosen.config["environment"]) == ([other], "other")
    assert _settings.kept()["environment"] == "kept"
    assert _settings.in_force({"config_filename": other}).files == [other]
    assert _settings.in_force({}).files == [path]


def test_overrides_that_cannot_be_used():
    """They are named before a file is read."""
    with pytest.raises(ConfigurationError, match="config_filename: 'missing.py' is not a file"):
        _settings.load({"config_filename": "missing.py"})
    with pytest.raises(ConfigurationError, match=r"endpoints must be a dict; it is \['x'\]"):
        _settings.load({"endpoints": ["x"]})


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("topic_prefix", 3, "topic_prefix must be text; it is 3"), ("environment", ["dev"], "['dev']"),
        ("endpoints", ["x"], "endpoints must be a dict of name -> endpoints; it is ['x']"),
        ("endpoints", {"other": 5}, "endpoints['other'] must be an endpoint, or a list of them; it is 5"),
        ("endpoints", {"other": ["tcp://127.0.0.1:1", None]}, "None"),
        ("endpoints", {"other": ["tcp://127.0.0.1:1", "tcp://host:99999"]}, "['other'] holds 'tcp://host:99999'"),
        ("endpoints", {"other": "tcp://host:http"}, "'tcp://host:http'; a tcp endpoint must end in a colon and a port"),
        ("endpoints", {"other": "tcp://host:0"}, "from 1 to 65535"),
        ("endpoints", {"other": "tcp://host"}, "'tcp://host'"),
        ("endpoints", {"other": "tcp://host:" + 5000 * "9"}, "a port"),
        ("endpoints", {"other": "tcp://host:\u0661"}, "a port"),
        ("relay_inbound", 5, "relay_inbound must be an endpoint"),
        ("relay_inbound", ["tcp://host:-1"], "relay_inbound holds 'tcp://host:-1'"),
        ("endpoints", {5: ["tcp://127.0.0.1:1"]}, "endpoints[5] has a name that is no text"),
        ("certnames", ["alice"], "certnames must be a dict of name -> name of a certificate; it is ['alice']"),
        ("certnames", {"publisher": ["alice"]}, "{'publisher': ['alice']}"),
        ("ssldir", ["pki"], "ssldir must be the path of a folder"),
        ("name", ["publisher"], "['publisher']"),
        ("name", 5, "5"),
        ("io_threads", 0, "io_threads must be a positive number; it is 0"),
        ("io_threads", 10**20, str(10**20)),
        ("io_threads", "many", "'many'"),
        ("high_water_mark", 2**31, "high_water_mark must be a whole number, 0 for no limit"),
        ("zmq_linger", None, "zmq_linger must be a whole number of milliseconds; it is None"),
        ("zmq_reconnect_ivl", 0.5, "0.5"),
        ("zmq_reconnect_ivl_max", -2, "-2"),
        ("post_init_sleep", -1, "post_init_sleep must be a number of seconds; it is -1"),
        ("crl_cache_expiry", "1h", "crl_cache_expiry must be a number of seconds; it is '1h'"),
    ],
)
def test_a_value_of_fedmsg_that_cannot_be_used(key, value, named):
    """It is refused with key and value, and the way to it is told."""
    [(way, problem)] = _settings.wrong({key: value})
    assert way[0] == key and named in problem
    with pytest.raises(ConfigurationError) as raised:
        _settings.require({key: value})
    assert str(raised.value) == problem


def test_values_of_fedmsg_that_can_be_used():
    """Absent ones, None where that means none, the defaults, and what bus owners write."""
    _settings.require({})
    _settings.require(fedmsg.config.defaults)
    endpoints = {"a": "tcp://*:1", "b": ("tcp://[::1]:65535 ", "ipc:///x"), "c": None, "d": [], "e": ""}
    _settings.require(
        {"name": None, "endpoints": endpoints, "certnames": None, "relay_inbound": None, "zmq_linger": -1}
    )
    assert [_settings.port(one) for one in ("tcp://*:1", "ipc:///x", "tcp://h:65536")] == [1, 0, 0]


def test_the_working_directory_was_removed(said, tmp_path, monkeypatch):
    """It is named: by what is to be read an error, of what is in force only a remark; an absolute file needs none."""
    path = said("config = {'endpoints': {}, 'environment': 'prod'}", "a.txt")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match=f"the working directory {gone} was removed"):
        _settings.current({})
    found = _settings.load({"name": "me"})
    assert str(gone) in found.problems[0] and found.config["name"] == "me"
    assert _settings.load({"config_filename": path}).config["environment"] == "prod"
    kept = _settings.in_force({"name": "me"})
    assert kept.problems == [] and str(gone) in kept.passed_over[0]
