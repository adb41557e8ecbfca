"""Many endpoints, most of them dead: what a process may open, and what it says where that is too little."""

import json

import pytest

import gilmsg
from gilmsg import _sockets

from .helpers import deaf
from .processes import python
from .talking import wait_for

CODE = """
import json, resource, sys
import gilmsg
config = json.loads(sys.argv[1])
def limit(soft, hard): resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
def publish():
    return list(gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=20.0, **config).acks)
def refused(call):
    try: call()
    except gilmsg.ConfigurationError as error: return str(error)

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
config["gilmsg.head_start"] = 20.0
limit(256, hard)
print(publish(), resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 400)
gilmsg.destroy()
limit(256, 256)
print(refused(publish))
print(refused(lambda: gilmsg.tail_messages(**dict(config, name="carol"))))
print("".join(gilmsg.check([], **config).failures()))
"""


def test_many_dead_endpoints_and_few_files(bus, config, tmp_path):
    """A low soft limit of open files is raised, a low hard one is named at the call, by both sides and by check."""
    with deaf(bus.ports.take()) as port:
        dead = {"dead%d" % n: ["tcp://127.1.%d.%d:%d" % (n // 250, 1 + n % 250, port)] for n in range(400)}
        config["endpoints"] = dict(dead, **config["endpoints"])
        done = python(CODE, tmp_path, json.dumps(config))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "['alice'] True"
    for line in lines[1:]:
        assert "open files, the limit is 256; raise it (ulimit -n " in line
    assert len(lines) == 4 and lines[3] == "listener: cannot listen for ACKs: " + lines[1]


@pytest.mark.parametrize("endpoint", ["ipc:///nowhere/socket", "inproc://name", "tcp:2000:"])
def test_what_has_no_port_cannot_be_published_on(config, endpoint):
    """An endpoint of our own that is not tcp://host:port is named, by publish and by check in the same words."""
    config["endpoints"]["publisher"] = [endpoint]
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config)
    assert str(raised.value) == "endpoints: %r cannot be bound, it must be tcp://host:port" % endpoint
    lines = [line.detail for line in gilmsg.check([], **config).lines if not line.ok]
    assert lines == [str(raised.value)]


def test_what_others_publish_on_may_be_anything(bus, config, caplog):
    """Endpoints of others that no gilmsg can reach are left out, as by fedmsg, with a warning that names them."""
    config["endpoints"]["other"] = ["ipc:///nowhere/socket", "tcp://[::1]:%d" % bus.ports.take()]
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5.0, **config).acks
    told = "the host of 'ipc:///nowhere/socket' does not resolve; it is left out"
    wait_for(lambda: told in caplog.text, "the warning, which another thread writes")


def test_what_libzmq_refuses_is_left_out(bus, config, monkeypatch, caplog):
    """Should libzmq refuse an endpoint that looks right to us, it is named, and the others are heard."""
    real = _sockets.connectable

    def one_more(named, run):
        # No configuration is known that gets so far.
        yield _sockets.Target("odd", "tcp://as configured:1", "tcp://no host:1", ())
        yield from real(named, run)

    monkeypatch.setattr(_sockets, "connectable", one_more)
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config).acks
    wait_for(lambda: "cannot connect to 'tcp://as configured:1'" in caplog.text, "it is named")
