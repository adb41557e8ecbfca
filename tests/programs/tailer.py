"""Tail the bus as a recipient: say "up", then the topic of each message."""

import json
import sys

import gilmsg

config, topic = sys.argv[1:]
tail = gilmsg.tail_messages(topic=topic, **json.loads(config))
print("up", flush=True)
for *_, message in tail:
    print(message["topic"], flush=True)
