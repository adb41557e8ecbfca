"""A program under the monkey patch of gevent or eventlet: do what the second argument names, by the bus in the third."""

import importlib
import json
import sys
import threading
import time
import warnings

LIBRARY, WHAT, CONFIG = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def patch(**parts):
    with warnings.catch_warnings():  # eventlet's, of itself
        warnings.simplefilter("ignore")
        gevent = LIBRARY == "gevent"
        module = importlib.import_module("gevent.monkey" if gevent else "eventlet")
        (module.patch_all if gevent else module.monkey_patch)(**parts)


if WHAT not in ("half", "late", "late_unused"):
    patch()

import gilmsg

counted = []


def count():
    while True:
        counted.append(time.monotonic())
        time.sleep(0.005)


def publish(recipient, how=gilmsg.publish, **options):
    return how(**{**CONFIG, "topic": "t", "msg": {}, "recipients": [recipient], "ack_timeout": 20, **options})


def beside(function, *arguments):
    """Run *function* in another greenlet; return what waits for it."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread.join


def counts_on(function, seconds=2.5):
    """Return what *function* returns; another greenlet must not have stood still for so long: signing takes some CPU.

    A busy machine may hold up all of us for as long, but not each time.
    """
    beside(count)
    for _ in range(3):
        began = time.monotonic()
        found = function()
        ended = time.monotonic()
        times = [one for one in [began, *counted, ended] if began <= one <= ended]
        if max(after - before for before, after in zip(times, times[1:])) < seconds:
            return found
    raise AssertionError(times)


def confirmed():
    return list(publish("alice").acks) == ["alice"]


def times_out():
    began = time.monotonic()
    try:
        publish("bob", ack_timeout=3, **{"gilmsg.head_start": 0.0})
    except gilmsg.Timeout:
        return len(counted) > 50 and 3 <= time.monotonic() - began < 20


def once():
    assert confirmed()  # connections and keys are there now
    assert counts_on(times_out)
    assert counts_on(confirmed)


def many():
    """As many greenlets as there are, at once."""
    acks = []
    for wait in [beside(lambda: acks.append(confirmed())) for _ in range(50)]:
        wait()
    assert acks == [True] * 50


def asynchronous():
    futures, told = [publish("alice", gilmsg.publish_async) for _ in range(100)], []
    for future in futures:
        future.add_done_callback(lambda one: (time.sleep(0.001), told.append(one)))
    assert all(list(future.result(60).acks) == ["alice"] for future in futures)
    while len(told) < 100:
        time.sleep(0.01)
    assert told == futures
    late = publish("bob", gilmsg.publish_async, ack_timeout=0.3, **{"gilmsg.head_start": 0.0})
    assert isinstance(late.exception(20), gilmsg.Timeout)


def destroyed():
    told, leaving = [], []

    def wait():
        try:
            publish("bob", ack_timeout=60, pre_fire_hook=leaving.append, **{"gilmsg.head_start": 0.0})
        except gilmsg.ListenerError as error:
            told.append(str(error))

    assert confirmed()
    join = beside(wait)
    while not leaving:  # from there on it does nothing but wait
        time.sleep(0.01)
    gilmsg.destroy()
    join()
    assert "destroy" in told[0], told
    assert confirmed()


def tail():
    """Hear in one greenlet what another publishes; a tail that waits stops nobody."""
    heard, carol = [], dict(CONFIG, name="carol")

    def hear():
        for *_, message in gilmsg.tail_messages(topic="", **carol):
            heard.append(message["topic"])

    beside(hear)
    counts_on(lambda: time.sleep(1.5))
    assert list(publish("carol").acks) == ["carol"]
    while not any(topic.endswith(".t") for topic in heard):
        time.sleep(0.01)


def after():
    """A handler that takes its time stops nobody, its ACK comes after it; what it rejects ends in a NACK."""
    carol = dict(CONFIG, name="carol")

    def handle():
        messages = gilmsg.tail_messages(topic="org.example.dev", acknowledge="after", **carol)
        for *_, message in messages:
            if message["msg"].get("n") == 1:
                time.sleep(1.0)
            elif message["msg"].get("n") == 2:
                messages.reject("too hot")

    beside(handle)
    publish("carol")  # modules and keys are there now
    receipt = counts_on(lambda: publish("carol", msg={"n": 1}))
    assert receipt.acks["carol"] >= 1.0
    try:
        counts_on(lambda: publish("carol", msg={"n": 2}, fail_fast=True, ack_timeout=60))
    except gilmsg.Timeout as timeout:
        assert timeout.missing["carol"].code == "nacked" and timeout.ack_timeout < 30
    else:
        raise AssertionError("a rejected message was confirmed")


def check():
    assert gilmsg.check(["alice"], **CONFIG)  # modules and keys are there now
    gilmsg.destroy()
    report = counts_on(lambda: gilmsg.check(["alice"], **CONFIG))
    assert report, report.failures()


def half():
    patch(select=False, **({} if LIBRARY == "gevent" else {"thread": True}))
    refused("not select")


def late():
    assert confirmed()
    patch()
    refused("came after")
    gilmsg.destroy()
    assert confirmed()


def late_unused():
    """Imported before the patch, and first used after it."""
    patch()
    once()


def refused(told):
    for how in (gilmsg.publish, gilmsg.publish_async):
        try:
            publish("alice", how)
        except gilmsg.ConfigurationError as error:
            assert told in str(error), error
        else:
            raise AssertionError(f"{how} was not refused")


globals()[WHAT]()
print("well done", flush=True)
