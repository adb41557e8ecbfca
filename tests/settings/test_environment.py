"""GILMSG_... variables: what they say counts over the files and under keywords."""

import json

import pytest

from gilmsg import _settings
from gilmsg.errors import ConfigurationError

FILE = {"gilmsg.ack_timeout": 1.0, "gilmsg.recipients": {"org": ["a"]}}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, and lets *files* be what the files say, loaded anew."""

    def set_(files, **variables):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        _settings.keep({"endpoints": {}, **files})
        return _settings.current({})

    return set_


@pytest.mark.parametrize(
    "own, expected",
    [({}, 3.0), ({"gilmsg.ack_timeout": 5.0}, 5.0), (FILE, 3.0), ({"gilmsg.ack_timeout": 3.0}, 3.0)],
    ids=["none", "a keyword", "the files' own", "the same"],
)
def test_over_the_files_and_under_keywords(environment, own, expected):
    """A keyword wins, but not one that says what the files say: that is load_config() handed on."""
    config = environment(FILE, GILMSG_ACK_TIMEOUT="3")
    assert _settings.settings(config, None, own).ack_timeout == expected
    assert _settings.settings({**config, **own}, None).ack_timeout == expected  # as in a context that was made of both
    assert _settings.settings(config, 7.0, own).ack_timeout == 7.0


def test_files_loaded_anew_are_the_files(environment):
    """What counts as the files' own is what the configuration in force said before any keyword came to it."""
    environment(FILE, GILMSG_ACK_TIMEOUT="3")
    config = environment({"gilmsg.ack_timeout": 2.0})
    config.update({"gilmsg.ack_timeout": 4.0})  # as gilmsg.init does with a keyword
    assert _settings.settings(config, None).ack_timeout == 4.0
    assert _settings.settings(config, None, {"gilmsg.ack_timeout": 2.0}).ack_timeout == 4.0


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("gilmsg.recipients", json.dumps({"org.example": ["a", "b,c"]}), {"org.example": ("a", "b,c")}),
        ("gilmsg.required", "1", True), ("gilmsg.required", "TRUE", True), ("gilmsg.fail_fast", "false", False),
        ("gilmsg.fail_fast", "0", False), ("gilmsg.fail_fast", "", True), ("gilmsg.head_start", "0", 0.0),
        ("gilmsg.head_start", "1.5", 1.5), ("gilmsg.outbox.window", "7", 7),
        ("gilmsg.outbox.database", "postgresql://x/1", "postgresql://x/1"), ("gilmsg.outbox.keep", "", 604800.0),
    ],
)  # fmt: skip
def test_a_text_is_the_value(environment, key, text, value):
    """Numbers, JSON, 1, 0, true and false; an empty variable is as good as none."""
    config = environment({"gilmsg.fail_fast": True}, **{_settings.VARIABLES[key]: text})
    assert _settings.read(key, config) == value


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("GILMSG_ACK_TIMEOUT", "soon", "GILMSG_ACK_TIMEOUT must be a positive, finite number of seconds.*'soon'"),
        ("GILMSG_ACK_TIMEOUT", "0", "GILMSG_ACK_TIMEOUT must be"), ("GILMSG_ACK_TIMEOUT", "nan", "GILMSG_ACK_TIMEOUT must be"),
        ("GILMSG_REQUIRED", "yes", "GILMSG_REQUIRED must be True or False .1, 0, true or false.*'yes'"),
        ("GILMSG_RECIPIENTS", "backend01", "GILMSG_RECIPIENTS must be JSON.*'backend01'"),
        ("GILMSG_RECIPIENTS", '["a"]', r"GILMSG_RECIPIENTS must be a dict .*\['a'\]"),
        ("GILMSG_RECIPIENTS", '{"org": [1]}', r"GILMSG_RECIPIENTS\['org'\] holds 1"),
        ("GILMSG_OUTBOX_WINDOW", "1.5", "GILMSG_OUTBOX_WINDOW must be a whole number.*1.5"),
    ],
)
def test_a_bad_text_is_named_with_its_variable(environment, name, text, words):
    """It is refused where it would count, before anything is sent, every time."""
    config = environment({}, **{name: text})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=words):
            _settings.settings(config, None)


def test_a_near_miss_is_a_warning(environment, caplog):
    """Names that may be misspelt are told, once, and ignored; others are somebody else's."""
    strangers = {"GILMSG_SEED": "1", "GILMSG_OUTBOX": "x", "GLIBC_TUNABLES": "x"}
    for _ in range(2):
        config = environment({}, GILMSG_ACK_TIMOUT="9", gilmsg_head_start="9", **strangers)
    assert _settings.settings(config, None)[1:3] == (0.25, 2.0)
    told = [record.getMessage() for record in caplog.records]
    assert [(record.name, record.levelname) for record in caplog.records] == [("gilmsg.settings", "WARNING")] * 2
    assert all(one in "".join(told) for one in ("GILMSG_ACK_TIMOUT", "GILMSG_ACK_TIMEOUT is meant", "gilmsg_head_start"))


def test_where_only_keywords_name_endpoints_it_is_the_same(tmp_path, monkeypatch):
    """fedmsg refuses to load such files; what they say is theirs all the same."""
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text("config = {'gilmsg.ack_timeout': 1.0}")
    monkeypatch.setenv("GILMSG_ACK_TIMEOUT", "3")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = _settings.current({"endpoints": {}})
    assert config["gilmsg.ack_timeout"] == 1.0
    assert _settings.settings({**config, "endpoints": {}}, None).ack_timeout == 3.0
