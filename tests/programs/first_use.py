"""Use gilmsg for the first time, in a process that has imported it and no more, in the way that is named."""

import atexit
import json
import sys
import threading

import gilmsg

config = dict(json.loads(sys.argv[2]), topic="t", msg={})
config["gilmsg.head_start"] = 20.0


def say(what):
    # At once: print() writes the end of the line by itself, and another thread in between.
    sys.stdout.write(str(what) + "\n")
    sys.stdout.flush()


def publish():
    say(list(gilmsg.publish(recipients=["alice"], ack_timeout=10.0, **config).acks))


def in_threads():
    start = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (start.wait(), publish())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at_exit():
    def plain():
        try:
            gilmsg.publish(recipients=[], pre_fire_hook=lambda message: say(message["topic"]), **config)
        except gilmsg.ListenerError:  # no thread can be started any more
            say("ListenerError")

    atexit.register(plain)


locals()[sys.argv[1]]()
