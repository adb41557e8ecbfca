"""Interpreter exit is prompt, and with the right code, in each state that publish can be in."""

import signal
import sys

import pytest

from ..conftest import own_config
from ..helpers import Hub, sampled
from ..processes import PROMPT
from .children import Child

#: A test of exit says what the process ends with by itself; alice answers, "nobody" never does.
LONG = "ack_timeout=3600"

#: Python 3.12 alone starts no thread once the interpreter ends: what needs a listener then is told so.
AT_EXIT = "nothing was sent" if sys.version_info[:2] == (3, 12) else ""

BY_ITSELF = {
    "after a publish": ("publish()", 0, ""),
    "after destroy": ("publish(); gilmsg.destroy()", 0, ""),
    "without recipients": ("publish(recipients=[], post_init_sleep=0)", 0, "without recipients"),
    "after a Timeout": (
        "try: publish('nobody', ack_timeout=0.05)\nexcept gilmsg.Timeout: pass", 0, "missing: nobody",
    ),
    "unhandled Timeout": ("publish('nobody', ack_timeout=0.05)", 1, "gilmsg.errors.Timeout: "),
    "unhandled exception": ("publish(); 1 / 0", 1, "ZeroDivisionError"),
    "sys.exit": ("publish(); sys.exit(7)", 7, ""),
    "a daemon thread waits": (
        "threading.Thread(target=lambda: publish('nobody', %s), daemon=True).start()\n"
        "until(waiting)" % LONG, 0, None,
    ),
    "a thread waits": (
        "threading.Thread(target=lambda: publish('nobody', ack_timeout=0.5)).start()\n"
        "until(waiting)", 0, "missing: nobody",
    ),
    "a daemon thread publishes": (
        "def work():\n"
        "    while True:\n"
        "        try: publish()\n"
        "        except Exception: pass\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "publish()", 0, None,
    ),
    "a thread still publishes": (
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    say(list(publish().acks))\n"
        "publish(); threading.Thread(target=work).start()", 0, "",
    ),
    "async outstanding": (
        "[gilmsg.publish_async(topic='t', msg={}, recipients=['nobody'], %s, **config)"
        " for _ in range(20)]" % LONG, 0, "",
    ),
    "a callback blocks": (
        "held = threading.Event()\n"
        "future = gilmsg.publish_async(topic='t', msg={}, recipients=['alice'], ack_timeout=10, **config)\n"
        "future.add_done_callback(lambda f: (held.set(), time.sleep(3600)))\n"
        "until(held.is_set)", 0, "",
    ),
    "first publish in atexit": ("atexit.register(lambda: say(list(publish().acks)))", 0, AT_EXIT),
    "atexit before ours": ("publish(); atexit.register(lambda: say(list(publish().acks)))", 0, ""),
    "atexit after ours": ("atexit.register(lambda: say(list(publish().acks))); publish()", 0, AT_EXIT),
    "tail open": ("tail = gilmsg.tail_messages(**dict(config, name='carol'))", 0, ""),
    "tail and publish": (
        "tail = gilmsg.tail_messages(**dict(config, name='carol')); publish(); next(tail)", 0, None,
    ),
    "os._exit": ("publish(); os._exit(3)", 3, ""),
    "the listener died": (
        "publish()\n"
        "def fail(*_): raise OSError('injected')\n"
        "_wakeup.Wakeup.clear = fail\n"
        "try: publish()\nexcept gilmsg.ListenerError: pass", 0, "the ACK listener died",
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", sampled(BY_ITSELF))
def test_exit_is_prompt(bus, tmp_path, state):
    """The process ends by itself, soon, with the code and the words on stderr that fit its state."""
    code, status, words = BY_ITSELF[state]
    with Child(code + "\nsay('last')\n", quick(bus), tmp_path) as child:
        if status == 0 and "atexit" not in state:
            child.wait_for("last")
        assert child.end() == status, child.err()
        if words is not None:
            assert words in child.err() if words else child.err() == ""
        if "publish().acks" in code and not words:
            assert "['alice']" in child.lines
        assert "Fatal Python error" not in child.err()


#: Code that ends in a wait and never returns from it.
WAITS = {
    "for an ACK": "when(waiting, lambda: say('there'))\npublish('nobody', %s)" % LONG,
    "for an ACK, another thread too": (
        "threading.Thread(target=lambda: publish('nobody', %s), daemon=True).start()\n"
        "until(waiting)\nsay('there')\npublish('nobody', %s)" % (LONG, LONG)
    ),
    "in the head start": (
        "config['gilmsg.head_start'] = 3600.0\n"
        "when(lambda: _outlets._outlets and _listeners._listeners, lambda: say('there'))\n"
        "publish('nobody')"
    ),
    "in tail_messages": (
        "tail = gilmsg.tail_messages(topic='no.such', **dict(config, name='carol'))\n"
        "say('there')\nnext(tail)"
    ),
    "for a future": (
        "future = gilmsg.publish_async(topic='t', msg={}, recipients=['nobody'], %s, **config)\n"
        "say('there')\nfuture.result()" % LONG
    ),
    "idle after a publish": "publish()\nsay('there')\nsignal.pause()",
}

#: What a signal does: (code before, signal) -> (exit code, words on stderr).
SIGNALS = {
    "SIGTERM": ("", signal.SIGTERM, -signal.SIGTERM, ""),
    "SIGTERM handled": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n", signal.SIGTERM, 5, "",
    ),
    "SIGINT": ("", signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt"),
    "SIGTERM, destroy": (
        "signal.signal(signal.SIGTERM, lambda *_: (gilmsg.destroy(), sys.exit(6)))\n",
        signal.SIGTERM, 6, "",
    ),
}  # fmt: skip


#: Each wait with SIGINT, which Python code must come round to see; in two waits all the others.
PAIRS = [("SIGINT", wait) for wait in WAITS] + [
    (what, wait) for what in SIGNALS if what != "SIGINT" for wait in ("for an ACK", "in the head start")
]


@pytest.mark.parametrize("what, wait", sampled(PAIRS))
def test_a_signal_ends_a_wait(bus, tmp_path, what, wait):
    """A signal during a wait ends the process soon, as it would end any Python program."""
    before, number, status, words = SIGNALS[what]
    with Child(before + WAITS[wait], quick(bus), tmp_path) as child:
        child.wait_for("there")
        child.send(number)
        assert child.end() == status, child.err()
        if "another thread" not in wait:  # that one is told by destroy(), and prints it
            assert words in child.err() if words else child.err() == ""
        assert "Fatal Python error" not in child.err()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hub_ends_on_a_signal(bus, tmp_path, number):
    """fedmsg-hub with a GilmsgConsumer that has acknowledged ends soon on SIGTERM and SIGINT.

    On SIGINT it ends, with plain consumers too, only when the next message comes: moksha stops
    the reactor from its signal handler, and nothing wakes epoll.
    """
    from gilmsg import publish

    from .. import talking as _process

    config = own_config(bus, name="carol", **{"moksha.workers_per_consumer": 2})
    with Hub(tmp_path / "hub", config, ["First"]) as hub:
        publish(
            topic="t", msg={}, recipients=["carol"], ack_timeout=10.0,
            **own_config(bus, **{"gilmsg.head_start": 20.0})
        )
        _process.wait_for(hub.consumed, "it consumed")
        hub.send(number)

        def ended():
            publish(topic="wake", msg={}, recipients=[], **own_config(bus))
            return not hub.alive

        _process.wait_for(ended, "the hub ends", PROMPT)
        assert hub.end() == (0 if number == signal.SIGINT else -number)
        assert "Fatal Python error" not in hub.out()


def quick(bus):
    """A configuration whose head start ends soon for "nobody", who never comes; alice tries to connect each second."""
    return own_config(bus, **{"gilmsg.head_start": 2.5})
