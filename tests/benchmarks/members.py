"""Members of a bus: ``python -m tests.benchmarks.members``. They use public names of gilmsg, and so run on 1.0.0, too.

The first line on stdin is the ``role`` and the ``config``. A recipient says when it is ready, and tails the bus until
its stdin ends. A publisher answers each further line, a number of messages, with the seconds that its threads took
to have as many confirmed each.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import gilmsg

#: Seconds after which what is not confirmed is a fault of the benchmark.
LIMIT = 60.0

#: Threads of a publisher.
THREADS = 8


def publish(recipient: str, **options: Any) -> Any:
    """Publish what *recipient* alone listens to."""
    return gilmsg.publish(
        topic=recipient, modname="benchmark", recipients=[recipient], **{"msg": {"n": 1}, "ack_timeout": LIMIT, **options},
    )  # fmt: skip


def publish_at_once(count: int) -> None:
    """Publish *count* messages to ``tail``, all on their way at once; return when all are confirmed."""
    options: dict[str, Any] = {"topic": "tail", "modname": "benchmark", "recipients": ["tail"], "ack_timeout": LIMIT}
    for future in [gilmsg.publish_async(msg={"n": number}, **options) for number in range(count)]:
        future.result()


def say(line: Any) -> None:
    print(json.dumps(line), flush=True)


def tail(config: dict[str, Any]) -> None:
    """Tail the bus, as the guides show it."""
    messages = gilmsg.tail_messages(topic="org.example.dev.benchmark." + config["name"], **config)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    say("ready")
    for _ in messages:
        pass


def direct(config: dict[str, Any]) -> None:
    """Tail the bus, and send the ACKs from this very thread, by a socket at the last of the endpoints."""
    import zmq

    from tests import inside

    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.bind(config["endpoints"][config["name"]][-1])
    heard: list[bytes] = []

    def send(parts: list[bytes]) -> None:
        if not heard:
            heard.append(socket.recv())  # a subscription: what is sent before is lost
        socket.send_multipart(parts)

    inside.acknowledge_by(send)
    tail(config)


def threads(config: dict[str, Any]) -> None:
    """Publish to ``tail`` from THREADS threads, each of which waits for one ACK after the other."""
    together = threading.Barrier(THREADS)
    pool = ThreadPoolExecutor(THREADS, initializer=lambda: gilmsg.init(**config))

    def several(count: int) -> None:
        together.wait(LIMIT)
        for _ in range(count):
            publish("tail")

    say("ready")
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in pool.map(several, [json.loads(line)] * THREADS):
            pass
        say(time.perf_counter() - began)


ROLES: dict[str, Callable[[dict[str, Any]], None]] = {"tail": tail, "direct": direct, "threads": threads}


def play(order: dict[str, Any]) -> None:
    ROLES[order["role"]](order["config"])


if __name__ == "__main__":
    play(json.loads(sys.stdin.readline()))
