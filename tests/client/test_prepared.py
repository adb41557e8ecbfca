"""Prepared messages: what can be sent, and under which configuration."""

import pytest

import gilmsg
from gilmsg._client.prepared import Prepared, configuration
from gilmsg.errors import ConfigurationError, PayloadError

BODY = '{"crypto":"x509","i":1,"msg":{},"msg_id":"2026-1","timestamp":1,"topic":"org.example.dev.t","username":"me"}'


def test_the_covered_bytes_say_what_is_sent():
    """Id, topic, and whether it is signed; the bytes themselves stay as they are."""
    assert Prepared.of(BODY.encode()) == ("2026-1", "org.example.dev.t", BODY.encode(), True)
    unsigned = BODY.replace('"crypto":"x509",', "")
    assert not Prepared.of(unsigned.encode()).signs


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cannot be decoded"), (b"\xff", "cannot be decoded"), (b"[]", "a JSON list"), (b"{}", "was changed"),
        (BODY.replace(":", ": ").encode(), "was changed"), (BODY.replace('"2026-1"', "1").encode(), "was changed"),
        (BODY[:-1].encode() + b',"signature":"x"}', "was changed"), (b'{"a":' * 100_000, "cannot be"),
    ],
    ids=["empty", "no text", "a list", "no message", "spaces", "no id", "signed", "deep"],
)  # fmt: skip
def test_what_recipients_would_answer_otherwise_is_refused(body, words):
    """The digest of an ACK is that of the canonical message: other bytes would never be confirmed."""
    with pytest.raises(PayloadError, match=words):
        Prepared.of(body)


def test_the_threads_context_holds_save_for_our_keys(config):
    """As for publish: its name and endpoints, and the gilmsg.* keys of the call."""
    gilmsg.init(**config)
    found = configuration({"name": "other", "gilmsg.head_start": 7.0})
    assert (found["name"], found["gilmsg.head_start"]) == (config["name"], 7.0)


def test_without_a_context_the_files_and_the_call_hold(config):
    """The name is guessed as for publish; a key that does not exist is refused."""
    del config["name"]
    assert configuration(config)["name"].startswith("tests.")
    with pytest.raises(ConfigurationError, match=r"gilmsg\.outbox\.pol"):
        configuration({**config, "gilmsg.outbox.pol": 1})
