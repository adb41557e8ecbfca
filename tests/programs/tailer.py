"""Tail the bus as a recipient: say "up", then the topic of each message; told to answer, publish, and say to whom."""

import json
import sys

import gilmsg

config, topic, *answering = sys.argv[1:]
tail = gilmsg.tail_messages(topic=topic, **json.loads(config))
print("up", flush=True)
for *_, message in tail:
    print(message["topic"], flush=True)
    if answering:
        print(*gilmsg.publish(topic="answer", msg={}, recipients=answering, ack_timeout=5).acks)
        break
