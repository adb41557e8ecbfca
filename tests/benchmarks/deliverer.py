"""A deliverer of an outbox: ``python -m tests.benchmarks.deliverer``.

The first line on stdin gives the ``path`` of the outbox and the ``config``. It says when it delivers; each further line
it answers with what it has cost so far: the CPU's seconds, and the bytes that it holds.
"""

from __future__ import annotations

import json
import os
import sys
import time

import psutil

import gilmsg.outbox
from tests.benchmarks.members import say


def main() -> None:
    order = json.loads(sys.stdin.readline())
    gilmsg.outbox.Outbox(order["path"]).start(**order["config"])
    say("ready")
    for _ in sys.stdin:
        say({"cpu": time.process_time(), "memory": psutil.Process().memory_info().rss})
    os._exit(0)


if __name__ == "__main__":
    main()
