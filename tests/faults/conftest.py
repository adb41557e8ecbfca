"""Hosts for a test, and the proof that none is left."""

import os

import pytest

from .. import inside
from . import hosts
from .world import World


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A CA and a key pair for each process of a world."""
    authority = inside.authority(tmp_path_factory.mktemp("pki"))
    for name in ("publisher", "alice", "bob"):
        authority.issue(name)
    return authority


@pytest.fixture
def make_world(authority, tmp_path, request):
    """A function that makes a running World; it ends with the test."""
    reason = hosts.unavailable()
    if reason:
        pytest.skip(reason)
    worlds = []

    def make(*recipients, **options):
        worlds.append(World(tmp_path, authority, recipients or ["alice"], **options))
        return worlds[-1].__enter__()

    yield make
    for world in worlds:
        world.__exit__()


@pytest.fixture
def world(make_world):
    """A publisher and alice, each on its host, connected."""
    world = make_world()
    world.warm()
    return world


@pytest.fixture(autouse=True)
def no_host_left_behind():
    yield
    if not hosts.unavailable():
        ours = [name for name, pid in hosts.namespaces().items() if pid == os.getpid()]
        assert not ours, f"namespaces are left: {ours}"
