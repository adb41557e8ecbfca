"""Ports that stay ours."""

import socket
import sys
import types

import pytest

from gilmsg.sandbox import folder


@pytest.fixture
def two_ports():
    """Two free ports, of a range from which no other test is given any meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_LOWEST", 4000)
        patch.setattr(folder, "_HIGHEST", 9999)
        ports = folder.Ports()
        found = ports.take(), ports.take()
    ports.close()
    return found


def drawn(monkeypatch, *ports):
    """Let these be the ports that chance will have."""
    picks = iter(ports)
    chance = types.SimpleNamespace(randint=lambda *_: next(picks))
    monkeypatch.setattr(folder, "random", types.SimpleNamespace(SystemRandom=lambda: chance))


def test_no_port_is_handed_out_twice(two_ports, monkeypatch):
    """Neither by one, nor by another who asks meanwhile; while it is ours, one can listen there, again and again."""
    one, other = two_ports
    ours, theirs = folder.Ports(), folder.Ports()
    drawn(monkeypatch, one, one, other, other, one)
    assert (ours.take(), theirs.take()) == (one, other)
    for _ in range(2):
        socket.create_server(("127.0.0.1", one)).close()
    ours.close()
    assert ours.take() == one
    ours.close()
    theirs.close()


def test_a_port_that_is_bound_is_not_handed_out(two_ports, monkeypatch):
    """A port on which somebody listens is left alone."""
    taken, free = two_ports
    drawn(monkeypatch, taken, free)
    ports = folder.Ports()
    with socket.create_server(("127.0.0.1", taken)):
        assert ports.take() == free
    ports.close()


def test_where_a_claim_would_be_in_the_way_there_is_none(two_ports, monkeypatch):
    """Off Linux a port is handed out all the same. (The platform is patched: there is no other one here.)"""
    monkeypatch.setattr(sys, "platform", "darwin")
    drawn(monkeypatch, *two_ports)
    ports = folder.Ports()
    with socket.socket() as other:
        other.bind(("", ports.take()))
