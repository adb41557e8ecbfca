"""The study of loads: many futures at once, a publisher with many subscriptions, messages that are large."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq

import gilmsg
from tests.benchmarks.figures import Figure, Outcome, alternate, median, ratio
from tests.benchmarks.members import LIMIT, publish, publish_at_once
from tests.benchmarks.parties import Bus, Lane
from tests.benchmarks.scale import Scale

#: What a message holds, by what the table calls it.
PAYLOADS: dict[str, dict[str, Any]] = {
    "100 keys": {f"key{number}": number for number in range(100)},
    "1 MB": {"text": "x" * 1_000_000},
}


def loads(scale: Scale) -> Outcome:
    """What grows with its input, each beside little of it, or the floor."""
    rounds = max(3, scale.rounds // 3)
    with Bus(["tail", "crowded"]) as bus:
        bus.tail("tail")
        ours = bus.lane()
        figures = [_outstanding(ours, scale.outstanding, rounds)]
        crowded = bus.lane(name="crowded")
        with _subscribed(crowded, bus.config["endpoints"]["crowded"][0], scale.subscriptions):
            contestants = {
                "none": lambda: ours.timed(lambda: publish("tail")),
                "many": lambda: crowded.timed(lambda: publish("tail")),
            }
            alternate(contestants, 1, {})  # warm
            results = alternate(contestants, rounds, dict.fromkeys(contestants, scale.calls))
        name = f"{scale.subscriptions} subscriptions: publish / with none"
        figures.append(Figure(name, ratio(results["many"], results["none"]), "x", "<= 1.2"))
        figures += _payloads(bus, ours, rounds, max(3, scale.calls // 4))
    return Outcome(figures)


def _outstanding(ours: Lane, few: int, rounds: int) -> Figure:
    """Ten times as many futures at once: each takes no longer."""
    many = 10 * few
    contestants = {count: lambda count=count: ours.timed(lambda: publish_at_once(count)) / count for count in (few, many)}  # type: ignore[misc]
    alternate(contestants, 1, {})  # type: ignore[type-var, arg-type]  # warm
    results: Any = alternate(contestants, rounds, {})  # type: ignore[arg-type]
    name = f"{many} outstanding: a message / with {few}"
    return Figure(name, ratio(results[many], results[few]), "x", "<= 1.2")


@contextmanager
def _subscribed(lane: Lane, endpoint: str, count: int) -> Iterator[None]:
    """Have somebody listen to so many topics of the publisher of *lane*."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = socket.sndhwm = 0  # subscriptions beyond that mark would be dropped
        socket.connect(endpoint)
        for topic in [*(f"org.example.dev.other.{number}." for number in range(count - 1)), "org.example.dev.benchmark.last"]:
            socket.subscribe(topic)
        until = time.monotonic() + LIMIT
        while not socket.poll(50):  # subscriptions count in the order in which they come
            if time.monotonic() > until:
                raise TimeoutError("the subscriptions have not come")
            lane.run(lambda: gilmsg.publish(topic="last", modname="benchmark", msg={}, recipients=[]))
        yield


def _payloads(bus: Bus, ours: Lane, rounds: int, calls: int) -> Iterator[Figure]:
    floor = bus.floor(["signed"])
    for name, payload in PAYLOADS.items():
        floor.payload = payload
        contestants = {"floor": floor.confirm, "ours": lambda payload=payload: ours.timed(lambda: publish("tail", msg=payload))}
        alternate(contestants, 1, {})  # warm
        results = alternate(contestants, rounds, dict.fromkeys(contestants, calls))
        yield Figure(f"a message of {name}", 1000 * median(results["ours"]), "ms", worthy=True)
        yield Figure(f"a message of {name}: gilmsg / floor", ratio(results["ours"], results["floor"]), "x", worthy=True)
