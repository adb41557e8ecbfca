"""Publish to recipients, a fresh process's first message; print the topic and who acknowledged. Arguments: call, head."""

import json
import sys

import gilmsg

receipt = gilmsg.publish(**json.loads(sys.argv[1]))
print(receipt.topic, *receipt.acks, flush=True)
