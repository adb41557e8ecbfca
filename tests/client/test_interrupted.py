"""A caller that leaves by an exception: what has not left by then never leaves."""

import importlib
from types import SimpleNamespace

import pytest

publish = importlib.import_module("gilmsg._client.publish")


class Port:
    """Takes a message; a signal handler raises just then, before the caller knows of it."""

    origin, born = "0123456789ab", 0.0

    def __init__(self):
        self.taken, self.forgotten = [], []

    def way(self, topic):
        return None

    def message(self, head_start, **entry):
        return SimpleNamespace(**entry)

    def publish(self, message):
        self.taken.append(message)
        raise KeyboardInterrupt

    def forget(self, message):
        self.forgotten.append(message)


@pytest.mark.parametrize("call", [publish.publish, publish.publish_async])
def test_a_message_is_abandoned_wherever_its_caller_is_interrupted(call, config, monkeypatch):
    port = Port()
    monkeypatch.setattr(publish._context, "port", lambda context: port)
    monkeypatch.setattr(publish._trust, "verifier", lambda config: None)
    with pytest.raises(KeyboardInterrupt):
        call(topic="t", msg={}, recipients=["other"], **config)
    assert port.taken
    assert port.forgotten == port.taken
