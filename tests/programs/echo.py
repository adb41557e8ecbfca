"""Repeats each word that it is told as an event; told "stubborn", it says something else and never ends by itself."""

import json
import sys
import time

for line in sys.stdin:
    print(json.dumps({"event": json.loads(line)}), flush=True)
    if json.loads(line) == "stubborn":
        print("no JSON", flush=True)
        while True:
            time.sleep(60)
