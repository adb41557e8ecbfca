"""Publish, tail and check where few files can be opened; *config*: the bus. What is said is printed, a line each."""

import contextlib
import json
import os
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

# The same where the endpoints would be few enough, but somebody else has nearly all files open.
config["endpoints"] = {name: ends for name, ends in config["endpoints"].items() if not name.startswith("dead")}
gilmsg.destroy()
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.dup(0))
for _ in range(12):
    os.close(taken.pop())
print(refused(publish))
for descriptor in taken:
    os.close(descriptor)
print(publish())
