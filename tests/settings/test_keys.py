"""Recipients, times and the table of recipients: what is taken, and what is refused with which words."""

import threading

import fedmsg.config
import pytest

from gilmsg import _settings
from gilmsg.errors import ConfigurationError

TABLE = {
    "org.example.prod": "zero",
    "org.example.prod.a": ["one"],
    "org.example.prod.a.b": ["two", "two"],
    "org.example.prod.a.none": [],
}


@pytest.mark.parametrize(
    "topic, expected",
    [
        ("org.example.prod.a", ("one",)), ("org.example.prod.a.b", ("two",)), ("org.example.prod.a.b.c", ("two",)),
        ("org.example.prod.ab", ("zero",)), ("org.example.production", ()), ("org.example", ()),
        ("org.example.prod.a.x.y", ("one",)), ("org.example.prod.a.none", ()),
    ],
)
def test_the_longest_match_counts(topic, expected):
    """A key matches its topic and what follows it after a dot; the longest one counts alone."""
    checked = _settings.read("gilmsg.recipients", {"gilmsg.recipients": TABLE})
    assert _settings.recipients_for(topic, checked) == expected


@pytest.mark.parametrize(
    "value, expected",
    [
        ("alice", ("alice",)), (["alice", "bob"], ("alice", "bob")),
        (iter(["bob", "alice", "bob"]), ("bob", "alice")), ("alice,bob", ("alice,bob",)),
        (["alice, bob", "bob,alice", "alice"], ("alice,bob", "alice")),
        (["alice,alice"], ("alice",)), ((), ()), ({"alice": 1}, ("alice",)),
    ],
)
def test_recipients_in_their_plain_form(value, expected):
    """One string is one entry; those that name the same collapse into the first."""
    assert _settings.recipients(value) == expected


@pytest.mark.parametrize(
    "value, words",
    [
        (3, "it must be|recipients must be a list of certificate common names; it is 3"),
        (b"alice", "recipients must hold text, not bytes: b'alice'"),
        ([b"alice"], r"recipients holds b'alice'; each entry must be a certificate common name \(text\)"),
        ([None], "recipients holds None"),
        ([["alice"]], r"recipients holds \['alice'\]"),
        ("", r"recipients holds ''; a common name cannot be empty \(a group is 'name,name'\)"),
        (["alice", " "], "recipients holds ' '"),
        (["alice,"], "recipients holds 'alice,'"),
    ],
)
def test_recipients_that_are_refused(value, words):
    """Anything but non-empty text is refused with the argument and the value, the second time too."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=words):
            _settings.recipients(value)


def test_any_of():
    """Its result is the entry that recipients takes; it takes common names only, at least one."""
    for names in ((), ("",), ("a", None), (b"a",), ("a,",)):
        with pytest.raises(ConfigurationError, match=r"any_of\(\)"):
            _settings.any_of(*names)
    assert _settings.any_of("a", " b ", "a") == "a,b"
    assert _settings.recipients(_settings.any_of("a", "b")) == ("a,b",)


@pytest.mark.parametrize(
    "config, words",
    [
        ({"gilmsg.recipients": ["alice"]}, r"gilmsg.recipients must be a dict of topic -> recipients; it is \['alice'\]"),
        ({"gilmsg.recipients": {"org": "alice,"}}, r"gilmsg.recipients\['org'\] holds 'alice,'"),
        ({"gilmsg.recipients": {"org.": 3}}, r"gilmsg.recipients\['org'\] must be a list"),
        ({"gilmsg.recipients": {"": ["alice"]}}, "gilmsg.recipients has the key ''; it must be a full topic"),
        ({"gilmsg.recipients": {7: ["alice"]}}, "gilmsg.recipients has the key 7"),
        ({"gilmsg.recipients": {"org.*": ["alice"]}}, r"the key 'org\.\*'; .* \(without \*: it holds for all that follows"),
        ({"gilmsg.recipients": {"org..a": ["alice"]}}, "the key 'org..a'"),
        ({"gilmsg.recipients": {"org.a ": ["alice"]}}, "the key 'org.a '"),
        ({"gilmsg.recipients": {"org": "a", "org.": "b"}}, "gilmsg.recipients has 'org' twice, with a dot at its end"),
        ({"gilmsg.ack_timeout": "soon"}, "gilmsg.ack_timeout must be a positive, finite number of seconds.* it is 'soon'"),
        ({"gilmsg.ack_timeout": 0}, "it is 0"), ({"gilmsg.ack_timeout": True}, "it is True"),
        ({"gilmsg.ack_timeout": float("inf")}, "it is inf"), ({"gilmsg.ack_timeout": float("nan")}, "it is nan"),
        ({"gilmsg.head_start": -1.5}, "gilmsg.head_start must be a non-negative, finite number.* it is -1.5"),
        ({"gilmsg.head_start": None}, "it is None"),
        ({"gilmsg.required": "yes"}, "gilmsg.required must be True or False; it is 'yes'"),
        ({"gilmsg.required": None}, "gilmsg.required must be True or False; it is None"),
        ({"gilmsg.fail_fast": 1}, "gilmsg.fail_fast must be True or False; it is 1"),
        ({"gilmsg.fail_fast": "True"}, "it is 'True'"), ({"gilmsg.fail_fast": None}, "it is None"),
        ({"gilmsg.outbox.window": 0}, "gilmsg.outbox.window must be a whole number of at least 1; it is 0"),
        ({"gilmsg.outbox.window": 2.0}, "it is 2.0"), ({"gilmsg.outbox.window": True}, "it is True"),
        ({"gilmsg.outbox.poll": 0}, "gilmsg.outbox.poll must be a positive"),
        ({"gilmsg.outbox.ack_timeout": 0}, "gilmsg.outbox.ack_timeout must be a positive"),
        ({"gilmsg.outbox.keep": -1}, "gilmsg.outbox.keep must be a non-negative"),
        ({"gilmsg.outbox.database": ""}, "gilmsg.outbox.database must be the path of an SQLite file, or a database URL"),
        ({"gilmsg.outbox.database": b"x"}, "it is b'x'"),
        ({"gilmsg.head_start": 2 * threading.TIMEOUT_MAX}, f"at most {threading.TIMEOUT_MAX:g}".replace("+", r"\+")),
    ],
)
def test_values_that_are_refused(config, words):
    """Each key is checked whole, in the files and as a keyword, whatever would match."""
    for places in ((config, None), ({}, None, config)):
        with pytest.raises(ConfigurationError, match=words):
            _settings.settings(*places)


def test_a_key_that_does_not_exist_is_refused():
    """Among keywords and in a configuration; the words name those that there are."""
    words = (
        "no setting 'gilmsg.recipient'; these are: gilmsg.recipients, gilmsg.ack_timeout, gilmsg.head_start, "
        "gilmsg.required, gilmsg.fail_fast, gilmsg.outbox.database, gilmsg.outbox.ack_timeout, gilmsg.outbox.window, "
        "gilmsg.outbox.poll, gilmsg.outbox.keep"
    )
    with pytest.raises(ConfigurationError, match=words):
        _settings.require_known({"gilmsg.recipient": 1})
    with pytest.raises(ConfigurationError, match=words):
        _settings.settings({}, None, {"gilmsg.recipient": 1})
    _settings.require_known({"gilmsg": 1, "recipient": 2, 3: 4})


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("recipient", "recipients"), ("recipents", "recipients"), ("reciepient", "recipients"),
        ("Recipients", "recipients"), ("ack_timout", "ack_timeout"), ("acktimeout", "ack_timeout"),
        ("ack_time_out", "ack_timeout"), ("pre_fire_hok", "pre_fire_hook"), ("mod_name", "modname"),
        ("gimsg.ack_timeout", "gilmsg.ack_timeout"), ("gilmsg_required", "gilmsg.required"),
        ("mail_recipients", None), ("recipients_by_topic", None), ("timeout", None), ("topics", None), ("mgs", None),
        ("model", None), ("rec", None), ("ack", None), ("", None), ("gilmsg.recipient", None),
    ],
)  # fmt: skip
def test_a_keyword_may_be_a_misspelt_one(keyword, meant):
    """One within two characters of a name of ours; not one that contains such a name, nor what looks like a short one."""
    assert _settings.misspelt((keyword, "endpoints")) == ({keyword: meant} if meant else {})
    assert _settings.misspelt((keyword, "acknowlege"), ("acknowledge",)) == {"acknowlege": "acknowledge"}


def test_no_setting_of_fedmsgs_is_a_misspelt_one():
    """Nor one of ours."""
    assert _settings.misspelt((*fedmsg.config.defaults, *_settings.KEYS)) == {}


def test_what_is_nearer_wins():
    """The argument over the keyword, the keyword over the files, the files over the default; each is checked."""
    files, own = {"gilmsg.ack_timeout": 2, "gilmsg.head_start": 0}, {"gilmsg.ack_timeout": 3}
    assert _settings.settings({}, None)[1:] == (0.25, 2.0, False, False)
    assert _settings.settings(files, None)[1:] == (2.0, 0.0, False, False)
    assert _settings.settings({"gilmsg.required": True}, None).required
    assert not _settings.settings({"gilmsg.required": True}, None, {"gilmsg.required": False}).required
    assert _settings.settings(files, None, own).ack_timeout == 3.0
    assert _settings.settings(files, 4, own).ack_timeout == 4.0
    fast = {"gilmsg.fail_fast": True}
    assert _settings.settings(fast, None).fail_fast and _settings.settings({}, None, fast).fail_fast
    assert not _settings.settings(fast, None, fast, False).fail_fast and _settings.settings({}, 4, {}, True).fail_fast
    with pytest.raises(ConfigurationError, match="fail_fast must be True or False; it is 'yes'"):
        _settings.settings({}, None, {}, "yes")
    with pytest.raises(ConfigurationError, match="ack_timeout must be"):
        _settings.settings(files, 0)
    with pytest.raises(ConfigurationError, match="'soon'"):
        _settings.settings({"gilmsg.ack_timeout": "soon"}, 4)


def test_a_table_that_was_changed_is_checked_anew():
    """The same table is checked once; it is a dict of lists, and anybody may change it."""
    table = {"org.a": ["alice"]}
    config = {"gilmsg.recipients": table}
    first = _settings.settings(config, None).table
    assert first == {"org.a": ("alice",)} and _settings.settings(config, None).table is first
    table["org.a"].append("bob")
    assert _settings.settings(config, None).table == {"org.a": ("alice", "bob")}
    table["org.b"] = None
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="it is None"):
            _settings.settings(config, None)
    del table["org.b"]
    assert _settings.settings(config, None).table == {"org.a": ("alice", "bob")}


def test_the_settings_of_a_deliverer():
    """Its own keys, and the head start; each has a default, each is checked."""
    assert _settings.outbox_settings({}) == (2.0, 5.0, 100, 1.0, 7 * 86400.0)
    own = {"ack_timeout": 7, "window": 3, "poll": 0.5, "keep": 0}
    config = {"gilmsg.head_start": 0, **{f"gilmsg.outbox.{key}": value for key, value in own.items()}}
    assert _settings.outbox_settings(config) == (0.0, 7.0, 3, 0.5, 0.0)
    assert _settings.read("gilmsg.outbox.database", {"gilmsg.outbox.database": "/a"}) == "/a"
    assert _settings.read("gilmsg.outbox.database", {}) is None
    with pytest.raises(ConfigurationError, match="no setting 'gilmsg.outbox.pol'"):
        _settings.outbox_settings({"gilmsg.outbox.pol": 1})


@pytest.mark.parametrize(
    "value, expected",
    [
        (9100, ("127.0.0.1", 9100)), ("9100", ("127.0.0.1", 9100)), ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("host.example.com:65535", ("host.example.com", 65535)), ("[::1]:9100", ("::1", 9100)), ("[::]:9100", ("::", 9100)),
    ],
)  # fmt: skip
def test_where_metrics_are_served(value, expected):
    """A port is one of loopback; an address, in brackets where it holds colons, may stand before it."""
    assert _settings.listening(value, "x") == expected
    assert _settings.read("gilmsg.metrics.port", {"gilmsg.metrics.port": value}) == expected


@pytest.mark.parametrize("value", [0, -1, 65536, "", ":9100", "a:", "a", "::1:9100", "1:2:3", "[x]:1", "1 ", "٣", 9.5, True, b"1", ()])
def test_a_port_that_is_none(value):
    """Key and value are named."""
    with pytest.raises(ConfigurationError) as refused:
        _settings.read("gilmsg.metrics.port", {"gilmsg.metrics.port": value})
    assert str(refused.value).startswith("gilmsg.metrics.port must be a port from 1 to 65535, or 'ADDRESS:PORT'")
    assert str(refused.value).endswith(f"it is {value!r}")
