"""A deliverer: where the outbox is, and the configuration."""

import json
import logging
import sys

import gilmsg.outbox

logging.basicConfig(stream=sys.stdout, level=logging.INFO)
gilmsg.outbox.Outbox(sys.argv[1]).run(**json.loads(sys.argv[2]))
print("ended", flush=True)
