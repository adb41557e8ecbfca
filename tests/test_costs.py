"""What a message no longer costs must not come back: the calls are counted, not timed."""

import collections
import copy
import getpass
import inspect
import logging
import socket
import sys
import threading
import traceback
from contextlib import contextmanager

import gilmsg
from gilmsg import _trust

from . import talking as _process
from .conftest import own_config
from .helpers import Hub
from .test_hub import PATIENT, hub_config

MESSAGES = 20

#: Done once, if at all, and never for each message.
ONCE = {
    "load_key", "load_certificate", "read_ca", "read_crl", "verify_certificate", "deepcopy", "extract_stack",
    "walk_stack", "getframeinfo", "getlines", "makeRecord", "start", "getaddrinfo", "getuser",
}  # fmt: skip


@contextmanager
def counting(later_threads=False):
    """Count the calls, by name, in this thread; also in *later_threads*, those that start from now on."""
    counts = collections.Counter()

    def note(frame, event, argument):
        if event == "call":
            counts[frame.f_code.co_name] += 1
        elif event == "c_call":
            counts[getattr(argument, "__qualname__", "")] += 1

    if later_threads:
        threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield counts
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def send(count):
    for number in range(count):
        gilmsg.publish(topic="t", msg={"n": number}, recipients=["alice"], ack_timeout=30.0, modname="costs")


def test_what_is_counted_would_be_seen(config):
    """Each name of ONCE is counted when the thing is done: a publish's first steps, and whatever else there is."""
    gilmsg.destroy()
    _trust._stores.clear()
    _trust._pairs.clear()
    with counting() as counts:
        gilmsg.init(**config)
        store, pair = _trust.trust_store(config), _trust.signing_key(config, "publisher")
        store.signer_of(pair.sign({"topic": "t", "msg": {}}))
        copy.deepcopy(config)
        traceback.extract_stack()
        inspect.stack()
        logging.getLogger("gilmsg.costs").warning("counted")
        threading.Thread(target=int).start()
        socket.getaddrinfo("localhost", None)
        getpass.getuser()
    assert not ONCE - set(counts)


def test_a_publish_does_only_what_it_must(bus, config):
    """A warm publish, listener included, signs once, verifies once, encodes four times, does nothing that keeps."""
    with counting(later_threads=True) as counts:
        gilmsg.init(**config)
        send(2)
        counts.clear()
        send(MESSAGES)
        steady = dict(counts)
    assert steady["RSAPrivateKey.sign"] == MESSAGES
    assert steady["RSAPublicKey.verify"] == MESSAGES
    assert {name: steady[name] for name in ONCE if name in steady} == {}
    # The payload as it will arrive, what is signed, the credentials; in the listener what the ACK's signature covers.
    assert steady["iterencode"] <= 4 * MESSAGES
    # The listener wakes for ACKs, not for publishes: the deadline it waits for comes before theirs.
    assert steady.get("wake", 0) < MESSAGES / 2


def test_a_tail_does_only_what_it_must(bus, config):
    """For each message that it acknowledges, a tail verifies once, signs once, and does nothing that keeps."""
    carol = own_config(bus, name="carol", validate_signatures=True)
    received = []

    def consume():
        gilmsg.init(**carol)
        messages = gilmsg.tail_messages(topic="org.example.dev.costs")
        with counting() as counts:
            for _, _, _, message in messages:
                received.append((message["msg"]["n"], dict(counts)))
                if len(received) == MESSAGES + 1:
                    return

    tail = threading.Thread(target=consume)
    tail.start()
    gilmsg.init(**config)
    for number in range(MESSAGES + 1):
        gilmsg.publish(topic="t", msg={"n": number}, recipients=["carol"], modname="costs", ack_timeout=30.0)
    tail.join(30.0)
    assert [number for number, _ in received] == list(range(MESSAGES + 1))
    begin, end = received[0][1], received[-1][1]
    grown = {name: end[name] - begin.get(name, 0) for name in end}
    assert grown["RSAPrivateKey.sign"] == MESSAGES
    assert grown["RSAPublicKey.verify"] == MESSAGES
    assert {name: grown[name] for name in ONCE if grown.get(name)} == {}


COUNTING = '''
import json, sys, threading
import gilmsg

NAMES = ("RSAPublicKey.verify", "RSAPrivateKey.sign", "deepcopy", "load_pem_private_key", "verify_certificate")

#: For each thread its own, of the same names all the time: no count is lost, and none grows while it is read.
counts = {}


def note(frame, event, argument):
    if event in ("call", "c_call"):
        name = getattr(argument, "__qualname__", "") if event == "c_call" else frame.f_code.co_name
        if name in NAMES:
            counts.setdefault(threading.get_ident(), dict.fromkeys(NAMES, 0))[name] += 1


class Counting(gilmsg.GilmsgConsumer):
    topic = "org.example.dev.tests.*"

    def __init__(self, hub):
        super().__init__(hub)
        sys.setprofile(note)
        threading.setprofile(note)

    def consume(self, message):
        with open("consumed", "a") as stream:
            stream.write(json.dumps({name: sum(one[name] for one in list(counts.values())) for name in NAMES}) + "\\n")
'''


def test_a_hub_verifies_each_message_once(bus, tmp_path):
    """moksha validates twice, in the reactor and in the worker: the signature is checked once, its chain not again."""
    config = hub_config(bus, **{"moksha.workers_per_consumer": 1})
    with Hub(tmp_path / "hub", config, ["Counting"], COUNTING) as hub:
        ours = own_config(bus, **PATIENT)
        for number in range(MESSAGES):
            gilmsg.publish(topic="t", msg={"n": number}, recipients=["carol"], ack_timeout=30.0, **ours)
        _process.wait_for(lambda: len(hub.consumed()) == MESSAGES, "it consumed all")
        counted = hub.consumed()[-1]
    assert counted["RSAPublicKey.verify"] == counted["RSAPrivateKey.sign"] == MESSAGES
    assert counted["verify_certificate"] == 1
    assert counted["deepcopy"] == counted["load_pem_private_key"] == 0
