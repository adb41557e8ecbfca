"""What a message no longer costs must not come back: the calls are counted, not timed."""

import collections
import sys
import threading
from contextlib import contextmanager

import gilmsg

from .. import inside
from ..conftest import own_config
from ..helpers import publish

MESSAGES = 20

#: Done once, if at all, and never for each message. (That keys are loaded once is seen in a hub: here they are kept.)
ONCE = {
    "load_pem_x509_certificate", "load_pem_x509_crl", "verify_certificate", "deepcopy",
    "extract_stack", "walk_stack", "getframeinfo", "getlines", "makeRecord", "start", "getaddrinfo", "getuser",
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


def send(count, recipient="alice"):
    for number in range(count):
        publish([recipient], msg={"n": number}, ack_timeout=30.0, modname="costs")


def test_a_publish_does_only_what_it_must(config):
    """A warm publish, listener included, signs once, verifies once, encodes four times, does nothing that keeps."""
    inside.forget_keys()
    with counting(later_threads=True) as counts:
        gilmsg.init(**config)
        send(2)
        assert {"load_pem_x509_certificate", "verify_certificate"} <= set(counts)  # what is counted would be seen
        counts.clear()
        send(MESSAGES)
        steady = dict(counts)
    assert steady["RSAPrivateKey.sign"] == MESSAGES
    assert steady["RSAPublicKey.verify"] == MESSAGES
    assert {name: steady[name] for name in ONCE if name in steady} == {}
    assert "_topic_of" not in steady  # nobody asked for metrics
    # The payload as it will arrive, what is signed, the credentials; in the listener what the ACK's signature covers.
    assert steady["iterencode"] <= 4 * MESSAGES


def test_a_tail_does_only_what_it_must(bus, config):
    """For each message that it acknowledges, a tail verifies once, signs once, and does nothing that keeps."""
    received = []

    def consume():
        gilmsg.init(**own_config(bus, name="carol", validate_signatures=True))
        messages = gilmsg.tail_messages(topic="org.example.dev.costs")
        with counting() as counts:
            for *_, message in messages:
                received.append((message["msg"]["n"], dict(counts)))
                if len(received) == MESSAGES + 1:
                    return

    tail = threading.Thread(target=consume)
    tail.start()
    gilmsg.init(**config)
    send(MESSAGES + 1, "carol")
    tail.join(30.0)
    assert [number for number, _ in received] == list(range(MESSAGES + 1))
    begin, end = received[0][1], received[-1][1]
    grown = {name: end[name] - begin.get(name, 0) for name in end}
    assert grown["RSAPrivateKey.sign"] == MESSAGES
    assert grown["RSAPublicKey.verify"] == MESSAGES
    assert {name: grown[name] for name in ONCE if grown.get(name)} == {}
