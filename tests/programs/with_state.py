"""Tests of an application that is up and running before, run in a pytest of their own: it is what it was afterwards."""

import concurrent.futures
import copy
import os
import threading

import fedmsg
import fedmsg.config
import psutil
import pytest

import gilmsg
from gilmsg.sandbox import Ports
from tests.processes import wait_for


def state():
    connections = psutil.Process().net_connections("tcp")
    return {
        "cache": getattr(fedmsg.config, "__cache"),
        "cached": copy.deepcopy(getattr(fedmsg.config, "__cache")),
        "conf": dict(fedmsg.config.conf),
        "loaded": fedmsg.config.conf._loaded,
        "environment": dict(os.environ, PYTEST_CURRENT_TEST=""),
        "locals": [fedmsg.__dict__["__local"], gilmsg.__dict__["__local"]],
        "threads": {one for one in threading.enumerate() if one.name != "gilmsg-callbacks"},  # a log line starts it
        "ports": {one.laddr.port for one in connections if one.status == "LISTEN"},
    }


@pytest.fixture(scope="module")
def app():
    """A context in this thread, and one in another."""
    ports = Ports()
    config = {
        "endpoints": {"app": [ports.endpoint()]}, "name": "app", "topic_prefix": "com.acme", "environment": "prod",
        "zmq_enabled": True, "post_init_sleep": 0.0,
    }
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ours = gilmsg.init(**config)
        theirs = pool.submit(gilmsg.init, **config).result()
        yield pool, ours, theirs, state()
        pool.submit(gilmsg.destroy).result()
    gilmsg.destroy()
    ports.close()


@pytest.mark.gilmsg_recipients("cn1")
def test_even_the_application_publishes_here(app, gilmsg_bus):
    pool, _, _, before = app
    names = gilmsg_bus.recipients
    here = gilmsg.publish(topic="t", msg={}, recipients=names, ack_timeout=5)
    there = pool.submit(gilmsg.publish, topic="t", msg={}, modname="m", recipients=names, ack_timeout=5).result()
    assert here.topic.startswith("org.example.dev.") and there.topic.startswith("org.example.dev.")
    assert fedmsg.config.load_config() is not before["cache"]
    assert fedmsg.config.conf["topic_prefix"] == "org.example"
    fedmsg.config.load_config()["endpoints"].clear()
    fedmsg.config.conf["topic_prefix"] = "spoilt"
    assert len(gilmsg_bus.received["cn1"]) == 2


def test_and_then_all_is_as_it_was(app):
    pool, ours, theirs, before = app
    wait_for(lambda: state()["threads"] == before["threads"], "the engine of the other test has ended")
    after = state()
    for key in before:
        assert after[key] == before[key], key
    for one, other in zip([before["cache"]] + before["locals"], [after["cache"]] + after["locals"]):
        assert one is other
    assert getattr(fedmsg.__dict__["__local"], "__context") is ours
    assert pool.submit(getattr, fedmsg.__dict__["__local"], "__context").result() is theirs
    assert ours.c["topic_prefix"] == "com.acme"
    gilmsg.publish(topic="still", msg={}, recipients=[])


@pytest.mark.gilmsg_recipients("cn1")
def test_a_test_that_destroys_leaves_no_less(app, gilmsg_bus):
    gilmsg.destroy()
    gilmsg.publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5)


def test_and_the_application_goes_on(app):
    assert gilmsg.publish(topic="still", msg={}, recipients=[]) is None
    assert getattr(fedmsg.__dict__["__local"], "__context") is app[1]
