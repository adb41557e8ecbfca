"""A publisher or a recipient on a bus with many endpoints: ``python -m tests.benchmarks.crowd``.

The first line on stdin gives its ``role`` and ``config``, and perhaps how many ``files`` it may open. It
says what that costs, and goes on until stdin ends.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import threading
import time
from typing import Any, Callable

import psutil

import gilmsg
from tests.benchmarks.figures import timed
from tests.benchmarks.members import publish, say

#: Seconds in which it does nothing but keep its connections.
IDLE = 2.0


class Cost:
    """What grows between its beginning and :meth:`figures`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._files, self._memory = self._process.num_fds(), self._process.memory_info().rss
        self._most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, self._process.num_fds())
            time.sleep(0.05)

    def figures(self) -> dict[str, float]:
        """Return them, after IDLE seconds; CPU as the share of one core."""
        cpu, attempts = time.process_time(), _attempts()
        time.sleep(IDLE)
        return {
            "idle": (time.process_time() - cpu) / IDLE,
            "attempts": (_attempts() - attempts) / IDLE,
            "files": self._most - self._files,
            "memory": self._process.memory_info().rss - self._memory,
        }


def _attempts() -> int:
    """Return how many TCP connections this machine has tried to open; only Linux tells, elsewhere 0."""
    try:
        with open("/proc/net/snmp") as stream:
            names, values = [line.split() for line in stream if line.startswith("Tcp:")]
    except OSError:
        return 0
    return int(dict(zip(names, values))["ActiveOpens"])


def publisher(config: dict[str, Any]) -> dict[str, float]:
    """Publish to ``tail``, for the first time, and again when the first rush of connections is over."""
    cost, cpu = Cost(), time.process_time()
    first = timed(lambda: publish("tail", **config))
    start = time.process_time() - cpu
    figures = cost.figures()
    own = time.thread_time()
    later = statistics.median(timed(lambda: publish("tail")) for _ in range(100))
    return dict(figures, first=first, start=start, later=later, caller=(time.thread_time() - own) / 100)


def tail(config: dict[str, Any]) -> dict[str, float]:
    """Tail the bus."""
    cost, began = Cost(), time.perf_counter()
    messages = gilmsg.tail_messages(topic="org.example.dev.benchmark.crowd", **config)
    call = time.perf_counter() - began
    threading.Thread(target=lambda: [None for _ in messages], daemon=True).start()
    return dict(cost.figures(), call=call)


ROLES: dict[str, Callable[[dict[str, Any]], dict[str, float]]] = {"publisher": publisher, "tail": tail}


def main() -> None:
    order = json.loads(sys.stdin.readline())
    if "files" in order:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order["files"], order["files"]))
    figures = ROLES[order["role"]](order["config"])
    say(figures)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
