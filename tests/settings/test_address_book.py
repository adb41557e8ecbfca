"""The endpoints of one bus: who publishes where, and what tells one bus from another."""

import copy

import pytest

from gilmsg import _settings

CONFIG = {
    "topic_prefix": "org.example",
    "environment": "dev",
    "endpoints": {
        "me": "tcp://127.0.0.1:1",
        "alice": ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"],
        "alice2": ["tcp://127.0.0.1:4"],
        "relay_inbound": ["tcp://127.0.0.1:5"],
        "relay_outbound": ["tcp://127.0.0.1:6"],
        "nobody": [],
        "nothing": None,
    },
    "certnames": {"alice": "alice", "alice2": "alice", "unknown": "bob"},
    "relay_inbound": "tcp://127.0.0.1:5",
}


def test_who_publishes():
    """Whoever has an endpoint, save the far end of relay_inbound, which listens, though an active context lists it."""
    book = _settings.AddressBook(CONFIG)
    assert book.ack_topic == "org.example.dev.gilmsg.ack"
    assert book.publishing == {
        "me": ["tcp://127.0.0.1:1"],
        "alice": ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"],
        "alice2": ["tcp://127.0.0.1:4"],
        "relay_outbound": ["tcp://127.0.0.1:6"],
    }
    config = dict(CONFIG, endpoints={"active": ["tcp://127.0.0.1:5", "tcp://127.0.0.1:7"]})
    assert _settings.publishing_endpoints(config) == {"active": ["tcp://127.0.0.1:7"]}
    assert _settings.publishing_endpoints({}) == _settings.publishing_endpoints({"endpoints": None}) == {}


@pytest.mark.parametrize(
    "name, via_relay, expected",
    [
        ("alice", True, ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3", "tcp://127.0.0.1:4"]),
        ("bob", False, []), ("bob", True, ["tcp://127.0.0.1:6"]), ("stranger", True, ["tcp://127.0.0.1:6"]),
    ],
)
def test_where_acks_can_come_from(name, via_relay, expected):
    """From all endpoints whose certnames lead to that name; behind a relay, else from the relay."""
    assert _settings.AddressBook(CONFIG).of(name, via_relay) == expected


@pytest.mark.parametrize(
    "key, value, another_bus",
    [
        ("topic_prefix", "org.other", True), ("environment", "prod", True), ("certnames", {"alice": "alice"}, False),
        ("certnames", None, False), ("relay_inbound", "tcp://127.0.0.1:4", True),
        ("endpoints", {**CONFIG["endpoints"], "new": "tcp://127.0.0.1:9"}, True),
        ("endpoints", {**CONFIG["endpoints"], "nobody": ["tcp://127.0.0.1:9"]}, True),
        ("endpoints", {**CONFIG["endpoints"], "nobody": None}, False),
    ],
)
def test_a_change_is_noticed(key, value, another_bus):
    """The book does not hold any more; its key tells whether it is another bus."""
    config = copy.deepcopy(CONFIG)
    book = _settings.AddressBook(config)
    assert book.holds_for(config) and book.holds_for(copy.deepcopy(config))
    config[key] = value
    assert not book.holds_for(config)
    assert (_settings.AddressBook(config).key != book.key) is another_bus


def test_a_change_within_a_list_is_noticed():
    """The configuration is a dict, and anybody may change what is in it."""
    config = copy.deepcopy(CONFIG)
    book = _settings.AddressBook(config)
    config["endpoints"]["alice"].append("tcp://127.0.0.1:9")
    assert not book.holds_for(config)


def test_equal_buses_have_equal_keys():
    """In whatever order endpoints were named, and whether as a list or as text."""
    endpoints = dict(reversed(list(CONFIG["endpoints"].items())), me=["tcp://127.0.0.1:1"])
    assert _settings.AddressBook(dict(CONFIG, endpoints=endpoints)).key == _settings.AddressBook(CONFIG).key
