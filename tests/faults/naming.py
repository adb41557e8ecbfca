"""Processes in which host names resolve late or never: see test_connections."""

import contextlib
import signal
import socket
import threading
import time

import pytest

import gilmsg

from .. import inside
from .children import acks, arguments, config, first_of, main, say, until

#: Set when names resolve, to this host.
resolves = threading.Event()

#: Set when one has been looked up.
asked = threading.Event()


def found(port):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]


@contextlib.contextmanager
def names(answer):
    """A block in which host names are looked up by *answer*(port), which tells where they lead."""
    with pytest.MonkeyPatch.context() as patch:
        inside.resolve(patch, lambda host, port, *_: (asked.set(), answer(port))[1])
        yield


def now_or_not(port):
    """Names resolve or not, at once."""
    if not resolves.is_set():
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return found(port)


def unhurried(wait):
    """Publish and tail while a name is being looked up: *wait* is what that takes; return what is set after it."""
    answered = threading.Event()

    def answer(port):
        wait()
        answered.set()
        return found(port)

    with names(answer):
        tail = gilmsg.tail_messages(**config)
        until(asked.is_set, "it is looked up")
        say("looked up")
        say(acks())
        first_of(tail)
        say("yielded")
        say("answered" if answered.is_set() else "not yet")
    return answered


def slow():
    done = threading.Event()
    answered = unhurried(done.wait)  # the name server takes longer than all that
    done.set()
    until(answered.is_set, "it is answered in the end")


def never():
    unhurried(lambda: time.sleep(3600))


def recipient():
    """alice's host resolves after a while."""
    with names(now_or_not):
        call = arguments(ack_timeout=0.3, **{"gilmsg.head_start": 0})
        code = ""

        def unresolved():
            nonlocal code
            try:
                gilmsg.publish(**call)
            except gilmsg.Timeout as late:
                code = late.missing["alice"].code
                if code == "unresolved":
                    say("unresolved: {}".format(late.missing["alice"]))
            return code == "unresolved"

        until(unresolved, "alice, but for her endpoint, is there")
        since = time.monotonic()
        resolves.set()
        say(confirmed({**call, "ack_timeout": 1.0}))
        say(time.monotonic() - since)


def confirmed(call):
    """Publish until that is confirmed; return by whom."""
    found_acks = []

    def works():
        try:
            found_acks.extend(gilmsg.publish(**call).acks)
        except gilmsg.Timeout:
            return False
        return True

    until(works, "it is confirmed")
    return found_acks


def tail():
    """The publisher's host resolves with SIGUSR1."""
    signal.signal(signal.SIGUSR1, lambda *_: resolves.set())
    with names(now_or_not):
        messages = gilmsg.tail_messages(topic="org.example.dev.tests", **config)
        say("there")
        say(next(messages)[2])


if __name__ == "__main__":
    main(globals())
