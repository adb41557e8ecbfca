"""One sandbox per worker, a clean process before and after every test."""

import gc
import os
import threading

import fedmsg.config
import psutil
import pytest

import gilmsg
from gilmsg import _publish
from gilmsg._process import wait_for
from gilmsg.sandbox import Sandbox

#: Stays for the life of the process, asleep, by design.
KEPT = {"gilmsg-callbacks", "gilmsg-talker"}


@pytest.fixture(scope="session")
def shared_bus():
    bus = Sandbox(["alice", "bob"], relay=True)
    # Known to the stand-ins from the start: a consumer and a publisher that tests play.
    for name in ("carol", "hostile"):
        bus.config["endpoints"][name] = [bus.ports.endpoint()]
    bus.config["certnames"]["carol"] = "carol"
    bus.authority.issue("carol")
    with bus:
        yield bus


@pytest.fixture
def bus(shared_bus):
    """A running bus whose stand-ins, alice and bob, are well."""
    yield shared_bus
    for name in shared_bus.recipients:
        shared_bus.well(name)


@pytest.fixture
def config(bus):
    """A publisher's configuration, safe to change."""
    return own_config(bus)


def own_config(bus, **changes):
    endpoints = {name: list(value) for name, value in bus.config["endpoints"].items()}
    copy = dict(bus.config, endpoints=endpoints, certnames=dict(bus.config["certnames"]))
    return dict(copy, **changes)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path, monkeypatch):
    """Each test starts in an empty folder without configuration, and leaves nothing running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    setattr(fedmsg.config, "__cache", {})
    _publish._warned.clear()
    before = _threads(), _children()
    yield
    gilmsg.destroy()
    setattr(fedmsg.config, "__cache", {})
    gc.collect()
    wait_for(lambda: _threads() <= before[0], "no new thread is left: %s" % _threads(), 5)
    wait_for(
        lambda: len(_children()) <= max(len(before[1]), _stand_ins()),
        "no new process is left: %s" % _children(),
        5,
    )


def _threads():
    return {t for t in threading.enumerate() if t.name not in KEPT and t.is_alive()}


def _children():
    return {p.pid for p in psutil.Process(os.getpid()).children() if p.status() != "zombie"}


def _stand_ins():
    """The session's bus may come up during a test: two stand-ins and a relay."""
    return 3
