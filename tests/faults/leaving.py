"""States in which a process comes to its end, and waits that a signal ends; see test_exit."""

import atexit
import os
import signal
import sys
import threading
import time

import gilmsg

from .. import inside
from .children import (
    acks,
    arguments,
    beside,
    config,
    first_of,
    main,
    publish,
    publish_async,
    say,
    until,
    until_one_waits,
    when_one_waits,
)  # fmt: skip

#: Nobody answers; a test of exit says what the process ends with by itself.
LONG = 3600


def quietly(job):
    """Do *job*; what it raises is told by its class."""
    try:
        job()
    except gilmsg.GilmsgError as error:
        say(type(error).__name__)


# How a process ends by itself: the names of these functions are the cases.


def after_a_publish():
    publish()


def after_destroy():
    publish()
    gilmsg.destroy()


def without_recipients():
    gilmsg.publish(**arguments((), post_init_sleep=0))


def after_a_timeout():
    quietly(lambda: publish("nobody", ack_timeout=0.05))


def unhandled_timeout():
    publish("nobody", ack_timeout=0.05, pre_fire_hook=lambda message: say("last"))


def unhandled_exception():
    publish()
    say("last")
    raise ZeroDivisionError


def sys_exit():
    publish()
    say("last")
    sys.exit(7)


def a_daemon_thread_waits():
    beside(lambda: publish("nobody", ack_timeout=LONG))
    until_one_waits()


def a_thread_waits():
    beside(lambda: publish("nobody", ack_timeout=5.0), daemon=False)  # so long we have to see it wait
    until_one_waits()


def a_daemon_thread_publishes():
    def work():
        while True:
            quietly(publish)

    beside(work)
    publish()


def a_thread_still_publishes():
    publish()
    beside(lambda: (threading.main_thread().join(), say(acks())), daemon=False)


def futures_are_outstanding():
    for _ in range(20):
        publish_async("nobody", ack_timeout=LONG)


def a_callback_blocks():
    held = threading.Event()
    publish_async().add_done_callback(lambda future: (held.set(), time.sleep(3600)))
    until(held.is_set, "it is called")


def told_at_exit():
    """What an atexit function is told that publishes."""
    try:
        say(acks())
    except gilmsg.ListenerError as error:
        say(error)


def first_publish_in_atexit():
    atexit.register(told_at_exit)


def atexit_registered_before():
    atexit.register(told_at_exit)
    publish()


def atexit_registered_after():
    publish()
    atexit.register(told_at_exit)


def tail_open():
    config["tail"] = gilmsg.tail_messages(**dict(config, name="carol"))


def tail_and_publish():
    tail = gilmsg.tail_messages(**dict(config, name="carol"))
    first_of(tail)
    config["tail"] = tail


def os_exit():
    publish()
    say("last")
    os._exit(3)


def the_engine_died():
    publish()
    inside.kill_engine(OSError("injected"))
    quietly(publish)


def held_for_its_head_start():
    publish()
    publish_async("nobody", ack_timeout=LONG, **{"gilmsg.head_start": 3600.0})
    until(inside.held, "it is held")


# Waits from which nothing comes back.


def for_an_ack():
    when_one_waits(lambda: say("there"))
    publish("nobody", ack_timeout=LONG)


def for_an_ack_and_another_thread_too():
    a_daemon_thread_waits()
    say("there")
    publish("nobody", ack_timeout=LONG)


def in_the_head_start():
    beside(lambda: (until(inside.held, "it is held"), say("there")))
    publish("nobody", **{"gilmsg.head_start": 3600.0})


def in_tail_messages():
    tail = gilmsg.tail_messages(topic="no.such", **dict(config, name="carol"))
    say("there")
    next(tail)


def for_a_future():
    future = publish_async("nobody", ack_timeout=LONG)
    say("there")
    future.result()


def idle_after_a_publish():
    publish()
    say("there")
    signal.pause()


#: What SIGTERM does.
HANDLERS = {
    "SIGTERM": lambda: signal.SIG_DFL,
    "SIGTERM, sys.exit": lambda: lambda *_: sys.exit(5),
    "SIGTERM, destroy": lambda: lambda *_: (gilmsg.destroy(), sys.exit(6)),
}

if __name__ == "__main__":
    handler = HANDLERS.get(os.environ.get("GILMSG_TEST_HANDLER", ""))
    if handler:
        signal.signal(signal.SIGTERM, handler())
    main(globals())
    say("last")
