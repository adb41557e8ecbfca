"""Interpreter exit is prompt, and with the right code, in each state that publish can be in."""

import signal
import time

import pytest

import gilmsg

from ..conftest import own_config
from ..helpers import Hub, sampled
from ..processes import PROMPT, wait_for
from .children import Child

#: Case of leaving.py -> exit status, and words on stderr: "" is none at all, None any.
BY_ITSELF = {
    "after_a_publish": (0, ""),
    "after_destroy": (0, ""),
    "without_recipients": (0, "without recipients"),
    "after_a_timeout": (0, "missing: nobody"),
    "unhandled_timeout": (1, "gilmsg.errors.Timeout: "),
    "unhandled_exception": (1, "ZeroDivisionError"),
    "sys_exit": (7, ""),
    "a_daemon_thread_waits": (0, None),
    "a_thread_waits": (0, "missing: nobody"),
    "a_daemon_thread_publishes": (0, None),
    "a_thread_still_publishes": (0, ""),
    "futures_are_outstanding": (0, ""),
    "a_callback_blocks": (0, ""),
    "first_publish_in_atexit": (0, None),
    "atexit_registered_before": (0, None),
    "atexit_registered_after": (0, ""),
    "tail_open": (0, ""),
    "tail_and_publish": (0, None),
    "os_exit": (3, ""),
    "the_engine_died": (0, None),
    "held_for_its_head_start": (0, ""),
}

#: What those say at exit that publish there. Functions run last that were registered first; gilmsg's own is registered
#: with its import, so it comes after all of these; Python 3.12 starts no thread any more then.
AT_EXIT = {
    "a_thread_still_publishes": ["['alice']"],
    "atexit_registered_before": ["['alice']"],
    "atexit_registered_after": ["['alice']"],
}


@pytest.mark.parametrize("case", sampled(list(BY_ITSELF)))
def test_exit_is_prompt(bus, tmp_path, case):
    """The process ends by itself, soon, with the code and the words on stderr that fit its state."""
    status, words = BY_ITSELF[case]
    with Child("leaving", case, quick(bus), tmp_path) as child:
        child.wait_for("last")  # before that it has to start, which may take its time
        assert child.end() == status, child.err()
        said = [line for line in child.lines if line != "last"]
        if words is not None:
            assert words in child.err() if words else child.err() == ""
        if case in AT_EXIT:
            assert said == AT_EXIT[case]
        if case == "first_publish_in_atexit":
            assert said == ["['alice']"] or "nothing was sent" in said[0], said
        assert "Fatal Python error" not in child.err()


#: Cases of leaving.py that wait, and never come back.
WAITS = [
    "for_an_ack", "for_an_ack_and_another_thread_too", "in_the_head_start", "in_tail_messages", "for_a_future",
    "idle_after_a_publish",
]  # fmt: skip

#: What a signal does -> the signal, exit status, words on stderr.
SIGNALS = {
    "SIGTERM": (signal.SIGTERM, -signal.SIGTERM, ""),
    "SIGTERM, sys.exit": (signal.SIGTERM, 5, ""),
    "SIGINT": (signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt"),
    "SIGTERM, destroy": (signal.SIGTERM, 6, ""),
}

#: Each wait with SIGINT, which Python code must come round to see; in two waits all the others.
PAIRS = [("SIGINT", wait) for wait in WAITS] + [
    (what, wait) for what in SIGNALS if what != "SIGINT" for wait in ("for_an_ack", "in_the_head_start")
]


@pytest.mark.parametrize("what, wait", sampled(PAIRS))
def test_a_signal_ends_a_wait(bus, tmp_path, what, wait):
    """A signal during a wait ends the process soon, as it would end any Python program."""
    number, status, words = SIGNALS[what]
    with Child("leaving", wait, quick(bus), tmp_path, env={"GILMSG_TEST_HANDLER": what}) as child:
        child.wait_for("there")
        child.send(number)
        assert child.end() == status, child.err()
        if "another_thread" not in wait:  # that one is told by destroy(), and prints it
            assert words in child.err() if words else child.err() == ""
        assert "Fatal Python error" not in child.err()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hub_ends_on_a_signal(bus, tmp_path, number):
    """fedmsg-hub with a GilmsgConsumer that has acknowledged ends soon on SIGTERM and SIGINT.

    On SIGINT it ends, with plain consumers too, only when the next message comes: moksha stops
    the reactor from its signal handler, and nothing wakes epoll.
    """
    config = own_config(bus, name="carol", **{"moksha.workers_per_consumer": 2})
    with Hub(tmp_path / "hub", config, ["First"]) as hub:
        gilmsg.publish(
            topic="t", msg={}, recipients=["carol"], ack_timeout=10.0,
            **own_config(bus, **{"gilmsg.head_start": 20.0})
        )
        wait_for(hub.consumed, "it consumed")
        hub.send(number)

        def ended():
            gilmsg.publish(topic="wake", msg={}, recipients=[], **own_config(bus))
            time.sleep(0.2)  # not a flood: a hub consumes first what it has got, and then ends
            return not hub.alive

        wait_for(ended, "the hub ends", PROMPT)
        assert hub.end() == (0 if number == signal.SIGINT else -number)
        assert "Fatal Python error" not in hub.out()


def quick(bus):
    """A configuration whose head start ends soon for "nobody", who never comes."""
    return own_config(bus, **{"gilmsg.head_start": 0.5})
