"""Many endpoints, most of them dead: what a process may open, and what it says where that is too little."""

import re

import pytest

import gilmsg

from .helpers import deaf, publish
from .processes import program, wait_for


def test_many_dead_endpoints_and_few_files(bus, config, tmp_path):
    """A low soft limit of open files is raised, a low hard one is named at the call, by both sides and by check."""
    with deaf(bus.ports.take()) as port:
        dead = {f"dead{n}": [f"tcp://127.1.{n // 250}.{1 + n % 250}:{port}"] for n in range(400)}
        config["endpoints"] = dict(dead, **config["endpoints"])
        done = program("few_files", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, publisher, tail, check, taken, last = done.stdout.splitlines()
    assert (first, last) == ("['alice'] True", "['alice']")
    for line in (publisher, tail, check, taken):
        assert re.search(r"open.* files, the limit is 256; raise it \(ulimit -n |files are open .*ulimit -n", line)
    assert check == "listener: cannot listen for ACKs: " + publisher


def test_what_has_no_port_cannot_be_published_on(config):
    """An endpoint of our own that is not tcp://host:port is named, by publish and by check in the same words."""
    endpoint = "ipc:///nowhere/socket"
    config["endpoints"]["publisher"] = [endpoint]
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        publish(["alice"], **config)
    assert str(raised.value) == f"endpoints: {endpoint!r} cannot be bound, it must be tcp://host:port"
    lines = [line.detail for line in gilmsg.check([], **config).lines if not line.ok]
    assert lines == [str(raised.value)]


def test_what_others_publish_on_may_be_anything(bus, config, caplog):
    """Endpoints of others that gilmsg cannot reach, or whose host does not resolve, stop nothing; they are named."""
    odd = ["ipc:///nowhere/socket", f"tcp://[::1]:{bus.ports.take()}", "tcp://no-such-host.invalid:2000"]
    config["endpoints"]["other"] = odd
    assert publish(["alice"], **config).acks
    gilmsg.tail_messages(**dict(config, mute=True)).close()
    wait_for(lambda: all(one in caplog.text for one in odd[::2]), "the warnings, which other threads write")
    assert "the host of 'tcp://no-such-host.invalid:2000' does not resolve" in caplog.text
