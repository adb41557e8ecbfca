"""Tail as a recipient with one port; answer the first message by a confirmed publish, and print who confirmed it."""

import json
import sys

import gilmsg

config = json.loads(sys.argv[1])
for _ in gilmsg.tail_messages(topic="org.example.dev.tests", **config):
    print(list(gilmsg.publish(topic="answer", msg={}, recipients=["alice"], ack_timeout=5).acks))
    break
