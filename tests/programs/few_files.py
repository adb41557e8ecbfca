"""Publish, tail and check where few files can be opened; *config*: the bus. What is said is printed, a line each."""

import json
import resource
import sys

import gilmsg

config = json.loads(sys.argv[1])
config["gilmsg.head_start"] = 20.0
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def limit(soft, hard):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def publish():
    return list(gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=20.0, **config).acks)


def refused(call):
    try:
        call()
    except gilmsg.ConfigurationError as error:
        return error


limit(256, hard)
print(publish(), resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 400)
gilmsg.destroy()
limit(256, 256)
print(refused(publish))
print(refused(lambda: gilmsg.tail_messages(**dict(config, name="carol"))))
print("".join(gilmsg.check([], **config).failures()))
