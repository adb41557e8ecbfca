"""Tail the bus as a recipient: say "up", then the topic of each message; at most *count* of them, where that is given."""

import json
import sys

import gilmsg

config, topic, *count = sys.argv[1:]
tail = gilmsg.tail_messages(topic=topic, **json.loads(config))
print("up", flush=True)
for number, (*_, message) in enumerate(tail, 1):
    print(message["topic"], flush=True)
    if [str(number)] == count:
        break
