"""Do as ``jq .msg.id`` does, which need not be installed."""

import json
import sys

print(json.load(sys.stdin)["msg"]["id"])
