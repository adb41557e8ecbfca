"""A recipient under the test's control, and fedmsg-hub processes."""

import contextlib
import functools
import json
import os
import pathlib
import pprint
import signal
import socket
import sys
import threading

import psutil
import pytest
import zmq

from gilmsg import _acks, _message, _own_sockets, _presence

from . import talking as _process
from .processes import Program

REPOSITORY = pathlib.Path(__file__).parent.parent


class Forger:
    """Listens as any recipient and answers each gilmsg message with whatever it is told to.

    ``answer(message)`` returns the frames ([topic, body] in bytes) to send back. With *besides* it
    poses as listeners of those names too.
    """

    def __init__(self, config, common_name, answer, besides=()):
        self._answer = answer
        self._config = config
        self._context = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        for name in [common_name] + list(besides):
            self._sub.setsockopt(zmq.SUBSCRIBE, _presence.announcement("", name))
        for endpoint in config["endpoints"]["publisher"]:
            self._sub.connect(endpoint)
        self._pub = self._context.socket(zmq.XPUB)
        self._heard = set()
        self._pub.bind(config["endpoints"][common_name][0])
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self):
        while not self._over:
            if not self._sub.poll(50):
                continue
            _, message = _acks.decode(self._sub.recv_multipart())
            self._wait_for_listener(_message.origin_of(str(message.get("msg_id"))))
            for frames in self._answer(message):
                self._pub.send_multipart(frames)

    def _wait_for_listener(self, origin):
        """As a real recipient does: answer once the listener that awaits the ACK is subscribed."""
        if origin is None:
            return
        wanted = b"\x01" + _presence.announcement(_acks.ack_topic(self._config), origin)
        while wanted not in self._heard and self._pub.poll(5000):
            self._heard.add(self._pub.recv())


def sampled(cases, brief=None):
    """The parameters of a slow test; for plain pytest the case *brief* in place of them, or else the first of them."""
    plain, *slow = cases if brief is None else [brief, *cases]
    return [_case(plain), *(_case(one, pytest.mark.slow) for one in slow)]


def _case(values, *marks):
    return pytest.param(*(values if isinstance(values, tuple) else (values,)), marks=marks)


def digest(message):
    """The digest that an ACK for *message* carries."""
    return _acks.digest_of(_acks.canonical(message))


def ack_body(message, **changes):
    """The body of a right ACK for *message*."""
    body = {"ack_msg_id": message["msg_id"], "ack_digest": digest(message)}
    return {k: v for k, v in dict(body, **changes).items() if v is not None}


def signed(config, certname, body, topic=None, ssldir=None):
    """A message on the ACK topic (or *topic*), signed by *certname* without any check of ours."""
    message = _message.compose(topic or _acks.ack_topic(config), body, 1)
    folder = ssldir or config["ssldir"]
    status = os.stat("%s/%s.crt" % (folder, certname))
    return _pair(folder, certname, status.st_ino, status.st_mtime_ns).sign(message)


@functools.lru_cache(maxsize=None)
def _pair(ssldir, certname, *_identity):
    """Kept, for loading one takes 40 ms; a renewed certificate is another."""
    from gilmsg._keypair import KeyPair

    pair = KeyPair(ssldir, certname)
    pair._usable = pair._current  # an attacker signs with what is out of date, too
    return pair


def frames(message, envelope=None):
    topic = envelope or message["topic"]
    return [topic.encode(), _message.encode(message)]


CONSUMERS = '''
import json, os
import gilmsg
from gilmsg.sandbox import processes as _process


class Base(gilmsg.GilmsgConsumer):
    topic = "*"

    def consume(self, message):
        if not message["topic"].endswith("gilmsg.ack"):
            say(type(self).__name__, message)


def say(who, message, **more):
    line = dict(more, who=who, topic=message["topic"], msg_id=message["msg_id"],
                body=message["body"]["msg"], pid=os.getpid())
    with open("consumed", "a") as stream:
        stream.write(json.dumps(line) + "\\n")


class First(Base):
    pass


class Second(Base):
    config_key = "second.enabled"


class Patient(Base):
    """Stays in consume() until the test lets it go on."""

    def consume(self, message):
        super().consume(message)
        _process.wait_for(lambda: os.path.exists("go on"), "the test lets it go on", 600)


class Selfish(Base):
    """Overrides the hooks without super."""

    def pre_consume(self, message):
        message["body"]["touched"] = True

    def post_consume(self, message):
        pass
'''


class Hub(Program):
    """A fedmsg-hub in a folder of its own, its consumers found by their entry points; its output is in "log"."""

    # It ends as by SIGKILL, but coverage (see tox.ini) saves what it measured.
    ENDED_BY = signal.SIGTERM

    def __init__(self, folder, config, consumers, source=CONSUMERS, prefix=()):
        self.folder = folder
        write_config(folder, config)
        write_consumers(folder, source, consumers)
        env = {"PYTHONPATH": os.pathsep.join([str(folder), _process.environment()["PYTHONPATH"]])}
        words = _process.script("fedmsg.commands.hub:hub")
        super().__init__(words, folder, env, prefix, folder / "log")

    def wait_until_ready(self):
        self.wait_for("Running the MokshaHub reactor")

    def consumed(self):
        """What its consumers have written down: see CONSUMERS."""
        path = self.folder / "consumed"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_config(folder, config, name="bus.py"):
    """Let fedmsg find *config*, or the text of a configuration file, in *folder*; return the file."""
    (folder / "fedmsg.d").mkdir(parents=True, exist_ok=True)
    file = folder / "fedmsg.d" / name
    file.write_text(config if isinstance(config, str) else "config = %s\n" % pprint.pformat(config))
    return file


def write_consumers(folder, source, classes):
    """Let a hub whose path names *folder* find the consumers that are *classes* in *source*."""
    (folder / "testconsumers.py").write_text(source)
    info = folder / "testconsumers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: testconsumers\nVersion: 1.0\n")
    points = ["%s = testconsumers:%s" % (name.lower(), name) for name in classes]
    (info / "entry_points.txt").write_text("[moksha.consumer]\n%s\n" % "\n".join(points))


def bind(socket, endpoint):
    """Bind *socket*. libzmq gives a port of this process back some time after its socket was closed: wait for that."""

    def bound():
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return False
        return True

    _process.wait_for(bound, "%s is free" % endpoint, 20)


def own_descriptors():
    """How many descriptors this process has open, without TCP connections: those come and go with the peers.

    Each zmq socket has others besides, so one that is left shows. Looked at twice: a connection may begin, or end,
    between two steps.
    """
    connections = _connections()
    opened = set(map(int, os.listdir("/proc/self/fd")))
    return len(opened - connections - _connections())


def _connections():
    return {
        descriptor
        for descriptor, duplicate in _own_sockets.each()
        if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    }


def listening_ports(pid):
    return {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"}


class Tailer(Program):
    """A process that tails the bus as a recipient; ready when it has said so."""

    CODE = (
        "import json, sys, gilmsg\n"
        "tail = gilmsg.tail_messages(topic=sys.argv[2], **json.loads(sys.argv[1]))\n"
        "print('up', flush=True)\n"
        "for _ in tail:\n"
        "    pass\n"
    )

    def __init__(self, config, folder, topic=""):
        super().__init__([sys.executable, "-c", self.CODE, json.dumps(config), topic], folder)

    def wait_until_ready(self):
        self.wait_for("up\n")


def chain_checks(monkeypatch):
    """A list that grows by one with each certificate whose chain this process checks: with none, caches are hot."""
    from OpenSSL import crypto

    checks, real = [], crypto.X509StoreContext.verify_certificate
    # A spy, at the border to the library.
    monkeypatch.setattr(
        crypto.X509StoreContext, "verify_certificate", lambda self: checks.append(self) or real(self)
    )
    return checks


@contextlib.contextmanager
def deaf(port):
    """Listen at *port* so that the kernel drops each further attempt, as of a host that is down.

    Nobody accepts, and the queue is full. On Linux all of 127.0.0.0/8 leads there.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_server(("", port), backlog=0))
        for _ in range(4):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(("127.0.0.1", port))
        yield port


class Inbox:
    """What a stand-in gets from here on, on a topic (the end of one) that no other test uses.

    All tests share a bus: what another has sent, and nobody had to confirm, may come at any time.
    """

    def __init__(self, bus, topic, name="alice"):
        self._bus, self._topic, self._name = bus, "." + topic, name
        self._before = len(self._all())

    def _all(self):
        return [message for message in self._bus.received(self._name) if message["topic"].endswith(self._topic)]

    def messages(self):
        return self._all()[self._before:]


def received(bus, name, msg_id):
    """The message of that id as the stand-in *name* gets it."""
    what = "%s has %s" % (name, msg_id)
    [message] = _process.wait_for(lambda: [one for one in bus.received(name) if one["msg_id"] == msg_id], what)
    return message


def visibility(topic="org.example.dev.tests.t"):
    """What this thread's publisher sees of its recipients."""
    from gilmsg import _bus, _listeners
    from gilmsg._visibility import Visibility

    context = _bus.current()
    outlet = _bus.publisher(context).outlet()
    directory = _bus.directory(context)
    return Visibility(topic, outlet, _listeners.listener_for(directory.bus, context.c), directory)


def look(question):
    """Return what *question* answers about the peers of this thread's publisher."""
    from gilmsg import _bus

    with _bus.publisher(_bus.current()).outlet().look() as peers:
        return question(peers)


def until_present(*recipients, limit=_process.START_LIMIT):
    """Wait until a publish to *recipients* from this thread would not have to wait for anybody."""

    def present():
        seen = visibility()
        seen._outlet.catch_up()
        return look(lambda peers: _presence.ready(recipients, seen._route, peers, seen._back.linked))

    _process.wait_for(present, "%s are present" % (recipients,), limit)
