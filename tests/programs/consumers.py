"""Consumers for fedmsg-hub; what they consume they write down, a JSON line each, in the file "consumed"."""

import datetime
import json
import os
import signal

from moksha.hub.monitoring import MonitoringProducer

import gilmsg
from tests.processes import wait_for

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


class After(Base):
    """Acknowledges what it has consumed, as the message says."""

    topic = "org.example.dev.tests.after"
    acknowledge = "after"

    def consume(self, message):
        super().consume(message)
        what = message["body"]["msg"].get("do")
        if what == "raise":
            raise ValueError("too hot")
        if what == "wait":
            wait_for(lambda: os.path.exists("go on"), "the test lets it go on", 600)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


class Neither(Base):
    """One with a mistake."""

    acknowledge = "later"
