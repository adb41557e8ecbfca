"""Publish what the keywords on the command line say, in JSON; print the topic and who acknowledged."""

import json
import sys

import gilmsg

receipt = gilmsg.publish(**json.loads(sys.argv[1]))
print(receipt.topic, *receipt.acks, flush=True)
