"""A user's module: it publishes, and prints the topic that comes of it."""

import gilmsg


def go(config):
    print(gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config).topic)
