"""The wire format by hand, a recipient under the test's control, fedmsg-hub processes, and what is seen of a bus."""

import base64
import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import pprint
import signal
import socket
import threading
import time
import traceback
import uuid

import fedmsg.encoding
import psutil
import pytest
import zmq
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from OpenSSL import crypto

import gilmsg

from . import inside
from .processes import LIMIT, REPOSITORY, Program, environment, program_words, script, wait_for

__all__ = ["REPOSITORY"]


def publish(recipients, **options):
    """gilmsg.publish an empty message on the topic "t" to *recipients*; *options* win."""
    return gilmsg.publish(**{"topic": "t", "msg": {}, "recipients": recipients, **options})


def publish_async(recipients, **options):
    """The same of gilmsg.publish_async."""
    return gilmsg.publish_async(**{"topic": "t", "msg": {}, "recipients": recipients, **options})


def lost(recipients, **options):
    """Publish what is not confirmed in time; return the Timeout."""
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(recipients, **{"ack_timeout": 0.3, **options})
    return raised.value


def lost_when(seen, recipients, **options):
    """The same, with ever more time until *seen* holds of the Timeout: an ACK may take long on a busy machine."""
    return _patiently(functools.partial(publish, recipients, **options), seen, (0.5, 3.0, 20.0))


def told(words, call):
    """*call*(ack_timeout=seconds) with ever more patience, until its Timeout has *words* among its reasons; return it.

    What is to be told of has to come in time, and a machine may be busy.
    """
    timeout = _patiently(call, lambda one: any(words in reason for reason in one.missing.values()), (1.0, 5.0, 20.0))
    assert any(words in reason for reason in timeout.missing.values()), f"{words!r} is not said: {timeout.missing}"
    return timeout


def _patiently(call, seen, patience):
    """The first Timeout of *call*(ack_timeout=seconds) of which *seen* holds; the last, if it holds of none."""
    for seconds in patience:
        with pytest.raises(gilmsg.Timeout) as raised:
            call(ack_timeout=seconds)
        if seen(raised.value):
            break
    return raised.value


# What is on the wire: DESIGN, section 4.


def ack_topic(config):
    """The topic of ACKs."""
    return "{topic_prefix}.{environment}.gilmsg.ack".format(**config)


def announcement(topic, name):
    """What a recipient *name* subscribes to besides *topic*; or, at the ACK topic, a listener by its origin."""
    return (f"{topic}\0{name}").encode()


def compose(topic, body, origin=None, **fields):
    """An unsigned message of anybody's; one for which the listener *origin* awaits ACKs."""
    unique = str(uuid.uuid4())
    msg_id = "2026-" + (unique[:-12] + origin if origin else unique)
    return {"topic": topic, "msg": body, "timestamp": int(time.time()), "msg_id": msg_id, "i": 1,
            "username": "test", **fields}  # fmt: skip


def marked(body, recipients):
    """*body* of a message that names *recipients*."""
    return dict(body, gilmsg={"version": gilmsg.__version__, "recipients": list(recipients)})


def canonical(message):
    """What the signature of *message* covers."""
    bare = {key: value for key, value in message.items() if key not in ("signature", "certificate")}
    return fedmsg.encoding.dumps(bare).encode()


def digest(message):
    """The digest that an ACK for *message* carries."""
    return hashlib.sha256(canonical(message)).hexdigest()


def ack_body(message, **changes):
    """The body of a right ACK for *message*; what is changed to None is left out."""
    body = {"ack_msg_id": message["msg_id"], "ack_digest": digest(message)}
    return {key: value for key, value in dict(body, **changes).items() if value is not None}


def sign(config, certname, message, ssldir=None):
    """*message*, signed as fedmsg does, without any check: an attacker signs with what is out of date, too."""
    base = "{}/{}".format(ssldir or config["ssldir"], certname)
    status = os.stat(base + ".crt")
    key, certificate = _pair(base, status.st_ino, status.st_mtime_ns)
    message = dict(message, crypto="x509")
    signature = key.sign(canonical(message), padding.PKCS1v15(), hashes.SHA1())
    return dict(message, signature=base64.encodebytes(signature).decode(), certificate=certificate)


@functools.cache
def _pair(base, *_identity):
    """Kept, for loading one takes 40 ms; a renewed certificate is another."""
    with open(base + ".key", "rb") as key, open(base + ".crt", "rb") as certificate:
        return (
            serialization.load_pem_private_key(key.read(), None),
            base64.encodebytes(certificate.read()).decode(),
        )


def signed(config, certname, body, topic=None, ssldir=None, **more):
    """A message on the ACK topic (or *topic*), signed by *certname*; *more*: see `compose`."""
    return sign(config, certname, compose(topic or ack_topic(config), body, **more), ssldir)


def frames(message, envelope=None):
    """What is sent of *message*."""
    return [(envelope or message["topic"]).encode(), fedmsg.encoding.dumps(message).encode()]


def acked(parts):
    """The body of the ACK that was received as *parts*."""
    return json.loads(parts[1])["msg"]


@contextlib.contextmanager
def subscriber(*endpoints, topics=(b"",)):
    """A SUB socket that is connected to *endpoints*."""
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger = 0
        for topic in topics:
            reader.subscribe(topic)
        for endpoint in endpoints:
            reader.connect(endpoint)
        yield reader


@contextlib.contextmanager
def bound(endpoint):
    """An XPUB socket that is bound to *endpoint*; libzmq gives a port back some time after its socket was closed."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        bind(socket, endpoint)
        yield socket


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

    wait_for(bound, f"{endpoint} is free", 20)


def heard(socket, subscription):
    """Wait until somebody subscribes to just that at *socket*, an XPUB."""
    wait_for(lambda: socket.poll(50) and socket.recv() == b"\x01" + subscription, f"{subscription!r} is heard")


# What others see of a bus.


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
    what = f"{name} has {msg_id}"
    [message] = wait_for(lambda: [one for one in bus.received(name) if one["msg_id"] == msg_id], what)
    return message


def until_present(*recipients, limit=LIMIT):
    """Wait until a publish to *recipients* from this thread would not have to wait for anybody."""
    wait_for(lambda: inside.present(recipients), f"{recipients} are present", limit)


def until_gone(name):
    """Wait until this thread's publisher has seen that *name* has left."""
    wait_for(lambda: not inside.listens(name), f"the end of {name} is seen")


def chain_checks(monkeypatch):
    """A list that grows by one with each certificate whose chain this process checks: with none, caches are hot."""
    checks, real = [], crypto.X509StoreContext.verify_certificate
    # A spy, at the border to the library.
    monkeypatch.setattr(crypto.X509StoreContext, "verify_certificate", lambda self: checks.append(self) or real(self))
    return checks


# Processes, ports, files.

class Hub(Program):
    """A fedmsg-hub in a folder of its own, its consumers found by their entry points; its output is in "log".

    *source* is the module of the consumers, or its text.
    """

    # It ends as by SIGKILL, but coverage (see tox.ini) saves what it measured.
    ENDED_BY = signal.SIGTERM

    def __init__(self, folder, config, consumers, source="tests.programs.consumers", prefix=()):
        self.folder = folder
        write_config(folder, config)
        write_consumers(folder, source, consumers)
        env = {"PYTHONPATH": os.pathsep.join([str(folder), environment()["PYTHONPATH"]])}
        super().__init__(script("fedmsg.commands.hub:hub"), folder, env, prefix, folder / "log")

    def wait_until_ready(self):
        self.wait_for("Running the MokshaHub reactor")

    def consumed(self):
        """What its consumers have written down: see tests/programs/consumers.py."""
        path = self.folder / "consumed"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_config(folder, config, name="bus.py"):
    """Let fedmsg find *config*, or the text of a configuration file, in *folder*; return the file."""
    (folder / "fedmsg.d").mkdir(parents=True, exist_ok=True)
    file = folder / "fedmsg.d" / name
    file.write_text(config if isinstance(config, str) else f"config = {pprint.pformat(config)}\n")
    return file


def write_consumers(folder, source, classes):
    """Let a hub whose path names *folder* find the consumers that are *classes* in the module *source*."""
    if "\n" in source:
        (folder / "testconsumers.py").write_text(source)
        source = "testconsumers"
    info = folder / "testconsumers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: testconsumers\nVersion: 1.0\n")
    points = [f"{name.lower()} = {source}:{name}" for name in classes]
    (info / "entry_points.txt").write_text("[moksha.consumer]\n{}\n".format("\n".join(points)))


class Tailer(Program):
    """A process that tails the bus as a recipient; ready when it has said so."""

    def __init__(self, config, folder, topic=""):
        super().__init__(program_words("tailer", config, topic), folder)

    def wait_until_ready(self):
        self.wait_for("up\n")


def own_descriptors():
    """How many descriptors this process has open, without TCP connections: those come and go with the peers.

    Each zmq socket has others besides, so one that is left shows. Looked at several times, for a connection may begin,
    or end, between two steps: the least counts.
    """
    return min(_own_descriptors() for _ in range(3))


def _own_descriptors():
    connections = _connections()
    opened = set(map(int, os.listdir("/proc/self/fd")))
    return len(opened - connections - _connections())


def _connections():
    return {one.fd for one in psutil.Process().net_connections("tcp") if one.status != "LISTEN"}


def listening_ports(pid):
    """The TCP ports at which the process *pid* listens."""
    return {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"}


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


def in_a_child(job):
    """Fork; return the exit status: what *job* returns there, 1 if it raises; one that hangs is ended."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(job), 0)[1])


def forked(job):
    """Fork; return the child, for `os.waitpid`. It ends as `in_a_child` says, and tells on stderr what *job* raises."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            os._exit(job() or 0)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(1)
    return child


def in_threads(*jobs):
    """Run *jobs* at once, each in a thread; return what they returned, or raise an error of theirs."""
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(LIMIT) for future in [pool.submit(job) for job in jobs]]


def sampled(cases, brief=None):
    """The parameters of a slow test; for plain pytest the case *brief* in place of them, or else the first of them."""
    plain, *slow = cases if brief is None else [brief, *cases]
    return [_case(plain), *(_case(one, pytest.mark.slow) for one in slow)]


def _case(values, *marks):
    return pytest.param(*(values if isinstance(values, tuple) else (values,)), marks=marks)


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
        for subscription in [b""] + [announcement("", name) for name in [common_name, *besides]]:
            self._sub.subscribe(subscription)
        for endpoint in config["endpoints"]["publisher"]:
            self._sub.connect(endpoint)
        self._pub = self._context.socket(zmq.XPUB)
        self._heard = set()
        bind(self._pub, config["endpoints"][common_name][0])
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
            message = json.loads(self._sub.recv_multipart()[1])
            if "gilmsg" in message["msg"]:
                self._wait_for_listener(message["msg_id"][-12:])
            for parts in self._answer(message):
                self._pub.send_multipart(parts)

    def _wait_for_listener(self, origin):
        """As a real recipient does: answer once the listener that awaits the ACK is subscribed."""
        wanted = b"\x01" + announcement(ack_topic(self._config), origin)
        while wanted not in self._heard and self._pub.poll(5000):
            self._heard.add(self._pub.recv())
