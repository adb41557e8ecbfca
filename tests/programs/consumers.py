"""Consumers for fedmsg-hub; what they consume they write down, a JSON line each, in the file "consumed"."""

import datetime
import json
import os
import socket

from moksha.hub.monitoring import MonitoringProducer

import gilmsg
from tests.processes import port_of, wait_for

#: moksha reports every 5 s; a test has no time for that.
MonitoringProducer.frequency = datetime.timedelta(milliseconds=100)


def note(**line):
    with open("consumed", "a") as stream:
        stream.write(json.dumps(line) + "\n")


def say(who, message, **more):
    body = message["body"]["msg"]
    note(who=who, topic=message["topic"], msg_id=message["msg_id"], body=body, pid=os.getpid(), **more)


class Base(gilmsg.GilmsgConsumer):
    topic = "*"

    def consume(self, message):
        if not message["topic"].endswith("gilmsg.ack"):
            say(type(self).__name__, message)


class First(Base):
    """An ordinary one."""


class Second(Base):
    """One that its config_key switches on."""

    config_key = "second.enabled"


class Patient(Base):
    """Stays in consume() until the test lets it go on."""

    def consume(self, message):
        super().consume(message)
        wait_for(lambda: os.path.exists("go on"), "the test lets it go on", 600)


class Raw(gilmsg.GilmsgConsumer):
    """Takes messages as moksha has them."""

    topic = "org.example.dev.tests.raw"
    jsonify = False

    def consume(self, message):
        note(topic=message.topic)


class Lax(gilmsg.GilmsgConsumer):
    """Lets everything pass, and changes it; overrides the hooks without super."""

    topic = "org.example.dev.tests.lax"

    def validate(self, message):
        pass

    def pre_consume(self, message):
        message["body"]["msg"]["touched"] = True

    def post_consume(self, message):
        pass

    def consume(self, message):
        note(topic=message["topic"])


class Odd(gilmsg.GilmsgConsumer):
    """Counts what its ACKs come to, and has no port any more at a topic that ends in "lost"."""

    topic = "org.example.dev.tests"
    jsonify = False

    def pre_consume(self, message):
        if message.topic.endswith("lost"):
            gilmsg.destroy()
            wait_for(self.takes_the_port, "our port is somebody else's")

    def takes_the_port(self):
        try:
            self.held = socket.create_server(("", port_of(self.hub.config["endpoints"]["carol"][0])))
        except OSError:
            return False
        return True

    def consume(self, message):
        said = self.__json__()
        note(topic=message.topic, sent=said["acks_sent"], failed=said["acks_failed"])
