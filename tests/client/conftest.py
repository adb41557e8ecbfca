"""A configuration of one's own, and a process that has neither context nor engine, before and after each test."""

import fedmsg.config
import pytest

from gilmsg import _engine
from gilmsg._client.context import destroy
from tests import inside


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(fedmsg.config, "__cache", {})
    # libzmq gives a port back some time later, on a busy machine later than users are kept waiting.
    monkeypatch.setattr(_engine, "_PATIENCE", 30.0)
    yield
    destroy()


@pytest.fixture
def endpoint():
    """An endpoint of a port that is free."""
    ports = inside.free_ports()
    yield ports.endpoint()
    ports.close()


@pytest.fixture
def config(endpoint):
    """A publisher's configuration, safe to change."""
    return {
        "name": "me",
        "endpoints": {"me": [endpoint], "other": ["tcp://127.0.0.1:1"]},
        "environment": "dev",
        "topic_prefix": "org.example",
        "sign_messages": False,
        "zmq_enabled": True,
        "post_init_sleep": 0,
    }
