"""Publish on the bus that is configured here: once to the names in the arguments, or as each line of stdin says."""

import os
import sys

import fedmsg.config

import gilmsg


def publish(names, ack_timeout):
    try:
        call = {"topic": "t", "msg": {"a": 1}, "recipients": names, "gilmsg.head_start": 20.0}
        return sorted(gilmsg.publish(ack_timeout=ack_timeout, **call).acks)
    except gilmsg.Timeout as timeout:
        return "missing " + ", ".join(sorted(timeout.missing))


def once(names):
    """Tell who confirmed, where we are, what stdin says, and an endpoint; end with a status of our own."""
    print(publish(names, 10))
    print(os.getcwd(), sys.stdin.read(), fedmsg.config.load_config()["endpoints"]["prod"])
    sys.exit(3)


def loop():
    for line in sys.stdin:
        ack_timeout, *names = line.split()
        print(publish(names, float(ack_timeout)), flush=True)


if __name__ == "__main__":
    once(sys.argv[1:]) if sys.argv[1:] else loop()
