"""Tail with a limited queue, and be busy for longer than heartbeats last; say whether all 500 messages came."""

import json
import sys
import time

import pytest

import gilmsg
from tests import inside

inside.quicken_heartbeats(pytest.MonkeyPatch(), 100, 200)  # or it would take 7 s
tail = gilmsg.tail_messages(**json.loads(sys.argv[1]))
print("up", next(tail)[3]["msg"]["n"], flush=True)
time.sleep(0.6)  # longer than heartbeats last: the slow user
print([next(tail)[3]["msg"]["n"] for _ in range(499)] == list(range(1, 500)))
