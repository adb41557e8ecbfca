"""A recipient under the test's control, and fedmsg-hub processes."""

import os
import subprocess
import sys
import threading


import zmq

from gilmsg import _acks, _message, _presence, _process


class Forger:
    """Listens as any recipient and answers each gilmsg message with whatever it is told to.

    ``answer(message)`` returns the frames ([topic, body] in bytes) to send back.
    """

    def __init__(self, config, common_name, answer):
        self._answer = answer
        self._config = config
        self._context = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        self._sub.setsockopt(zmq.SUBSCRIBE, _presence.announcement("", common_name))
        for endpoint in config["endpoints"]["publisher"]:
            self._sub.connect(endpoint)
        self._pub = self._context.socket(zmq.PUB)
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
            for frames in self._answer(message):
                self._pub.send_multipart(frames)


def ack_body(message, **changes):
    """The body of a right ACK for *message*."""
    body = {"ack_msg_id": message["msg_id"], "ack_digest": _acks.digest(message)}
    return {k: v for k, v in dict(body, **changes).items() if v is not None}


def signed(config, certname, body, topic=None, ssldir=None):
    """A message on the ACK topic (or *topic*), signed by *certname* without any check of ours."""
    from gilmsg._keypair import KeyPair

    message = _message.compose(topic or _acks.ack_topic(config), body, 1)
    return KeyPair(ssldir or config["ssldir"], certname).sign(message)


def frames(message, envelope=None):
    topic = envelope or message["topic"]
    return [topic.encode(), _message.encode(message)]


CONSUMERS = '''
import json, os, sys
import gilmsg


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


class Selfish(Base):
    """Overrides the hooks without super."""

    def pre_consume(self, message):
        message["body"]["touched"] = True

    def post_consume(self, message):
        pass
'''


class Hub:
    """A fedmsg-hub process in a folder of its own, its consumers found by their entry points."""

    def __init__(self, folder, config, consumers, source=CONSUMERS):
        import pprint

        self.folder = folder
        (folder / "fedmsg.d").mkdir(parents=True)
        (folder / "fedmsg.d" / "hub.py").write_text("config = %s" % pprint.pformat(config))
        (folder / "testconsumers.py").write_text(source)
        info = folder / "testconsumers-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: testconsumers\nVersion: 1.0\n")
        points = ["%s = testconsumers:%s" % (name.lower(), name) for name in consumers]
        (info / "entry_points.txt").write_text("[moksha.consumer]\n%s\n" % "\n".join(points))
        self.log = open(str(folder / "log"), "wb")
        environment = _process.environment()
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
        self.process = subprocess.Popen(
            _process.script("fedmsg.commands.hub:hub"),
            cwd=str(folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        try:
            self.wait_for_log("Running the MokshaHub reactor")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def text(self):
        return (self.folder / "log").read_text()

    def wait_for_log(self, text):
        def found():
            if self.process.poll() is not None:
                raise AssertionError("the hub ended: " + self.text())
            return text in self.text()

        _process.wait_for(found, "the hub logs %r" % text)

    def consumed(self):
        import json

        path = self.folder / "consumed"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def python(code, cwd, *arguments, **options):
    """Run *code* in a new Python with this gilmsg; return the finished process."""
    return subprocess.run(
        [sys.executable] + options.pop("flags", []) + ["-c", code] + list(arguments),
        cwd=str(cwd),
        env=_process.environment(options.pop("env", None)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=options.pop("timeout", 60),
        **options,
    )


def listening_ports(pid):
    import psutil

    return {c.laddr.port for c in psutil.Process(pid).connections("tcp") if c.status == "LISTEN"}
