"""The studies of many: recipients of one message, and endpoints of one bus."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import gilmsg
from tests.benchmarks.figures import Figure, Outcome, alternate, median, timed, with_progress
from tests.benchmarks.floor import TOPIC
from tests.benchmarks.members import publish
from tests.benchmarks.parties import Bus, Child
from tests.benchmarks.scale import Scale
from tests.helpers import deaf

SUFFIX = TOPIC.decode("ascii").rpartition(".")[2]

#: Of the time of a message to so many recipients, to the floor's.
GOALS = {8: "<= 1.1", 128: "<= 1.07", 500: "<= 1.02"}


def recipients(scale: Scale) -> Outcome:
    """One message to many: the same bare recipients for the floor and for gilmsg's publisher."""
    times: dict[str, dict[int, float]] = {"signed floor": {}, "gilmsg.publish": {}}
    busy: dict[str, dict[int, float]] = {"signed floor": {}, "gilmsg.publish": {}}
    crypto: list[float] = []
    for count in with_progress(scale.recipients, "recipients"):
        crypto.append(_to_many(count, max(5, min(scale.rounds, 300 // count)), times, busy))
    ours, floor = times["gilmsg.publish"], times["signed floor"]
    figures = [
        Figure(f"{count} recipients: gilmsg.publish", 1000 * ours[count], "ms", worthy=count == max(ours))
        for count in ours
    ]
    for count in ours:
        times_floor = ours[count] / floor[count]
        goal = GOALS.get(count, "")
        figures.append(Figure(f"{count} recipients: gilmsg / floor", times_floor, "x", goal, worthy=True))
    slower = _further(ours) / _further(floor)
    cpu, floors_cpu = _further(busy["gilmsg.publish"]), _further(busy["signed floor"])
    figures += [
        Figure("a further recipient: time", 1000 * _further(ours), "ms", worthy=True),
        Figure("a further recipient: time / floor's", slower, "x", worthy=True),
        Figure("a further recipient: publisher's CPU", 1000 * cpu, "ms", worthy=True),
        Figure("a further recipient: CPU / (sign + verify)", cpu / statistics.median(crypto), "x", "<= 0.6"),
        Figure("a further recipient: CPU / floor's", cpu / floors_cpu, "x"),
    ]
    return Outcome(figures, times)


def _further(by: dict[int, float]) -> float:
    """Return what one recipient more adds, from the smallest to the largest number of them."""
    least, most = min(by), max(by)
    return (by[most] - by[least]) / (most - least)


def _to_many(count: int, rounds: int, times: dict[str, Any], busy: dict[str, Any]) -> float:
    """Note time and the publisher's CPU of one message to *count* recipients; return those of sign + verify."""
    names = [f"recipient{number:03}" for number in range(count)]
    with Bus(names) as bus:
        bus.bare(names)
        floor = bus.floor([f"floor{number:03}" for number in range(count)])
        patient = {"gilmsg.head_start": 60.0, "ack_timeout": 60.0}

        def ours() -> None:
            gilmsg.publish(
                topic=SUFFIX, modname="benchmark", msg={"n": 1}, recipients=names, **dict(bus.config, **patient)
            )

        spent: dict[str, list[float]] = {"signed floor": [], "gilmsg.publish": []}
        contestants = {
            "signed floor": lambda: _accounted(floor.confirm, spent["signed floor"]),
            "gilmsg.publish": lambda: _accounted(ours, spent["gilmsg.publish"]),
            "sign and verify": sign_and_verify(),
        }
        alternate(contestants, 1, {})  # warm
        for one in spent.values():
            one.clear()
        results = alternate(contestants, rounds, {})
    for name, seconds in spent.items():
        times[name][count] = median(results[name])
        busy[name][count] = statistics.median(seconds)
    return median(results["sign and verify"])


def _accounted(call: Callable[[], Any], spent: list[float]) -> float:
    """Return the seconds that *call* takes; add the CPU's, of all our threads, to *spent*."""
    before = time.process_time()
    seconds = timed(call)
    spent.append(time.process_time() - before)
    return seconds


def sign_and_verify(times: int = 20) -> Callable[[], float]:
    """Return a call that returns the CPU seconds of one signature and one verification, nothing else."""
    key, text = rsa.generate_private_key(65537, 2048), b"x" * 500
    public, signature = key.public_key(), key.sign(text, padding.PKCS1v15(), hashes.SHA1())

    def both() -> float:
        before = time.thread_time()
        for _ in range(times):
            key.sign(text, padding.PKCS1v15(), hashes.SHA1())
            public.verify(signature, text, padding.PKCS1v15(), hashes.SHA1())
        return (time.thread_time() - before) / times

    return both


def endpoints(scale: Scale) -> Outcome:
    """A publisher, and a tailing recipient, with many endpoints configured, most of them dead.

    Half of these refuse connections, as a host does whose service is down; half do not answer, as
    a host that is down. Each is a process of its own, see crowd.py, and so is the same with none.
    """
    count = scale.endpoints
    with Bus(["tail", "crowd"]) as bus, _nobody(bus, count) as dead:
        bus.tail("tail")
        crowded = dict(bus.config, endpoints=dict(dead, **bus.config["endpoints"]))
        alone, among = _publisher(bus.config), _publisher(crowded)
        tail, seconds = _tail(bus, dict(crowded, name="crowd"))
    each = {key: (among[key] - alone[key]) / count for key in alone}
    label = f"{count} endpoints: "
    return Outcome(
        [
            Figure(label + "first publish", among["first"], "s", "<= 5"),
            Figure(label + "later publish / with none dead", among["later"] / alone["later"], "x", worthy=True),
            Figure(label + "connection attempts", among["attempts"], "1/s", note="of the whole machine"),
            Figure(label + "CPU while idle", 100 * among["idle"], "%", worthy=True),
            Figure(label + "open files, at most", among["files"], "", worthy=True),
            Figure("an endpoint: CPU of the first publish", 1000 * each["start"], "ms"),
            Figure("an endpoint: caller's CPU of a later publish", 1e6 * each["caller"], "us"),
            Figure("an endpoint: memory", each["memory"] / 1024, "KiB", worthy=True),
            Figure(label + "tail_messages, the call", tail["call"], "s", worthy=True),
            Figure(label + "publish to that tail", 1000 * seconds, "ms"),
            Figure(label + "tail_messages, CPU while idle", 100 * tail["idle"], "%"),
            Figure(label + "tail_messages, open files, at most", tail["files"], ""),
            Figure(label + "tail_messages, memory", tail["memory"] / 2.0**20, "MiB"),
        ]
    )


def _in_a_crowd(role: str, config: dict[str, Any]) -> Child:
    return Child("tests.benchmarks.crowd", {"role": role, "config": config})


def _publisher(config: dict[str, Any]) -> dict[str, float]:
    with _in_a_crowd("publisher", config) as publisher:
        return dict(publisher.answer)


def _tail(bus: Bus, config: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Return what the tail measured, and the seconds of a confirmed message to it."""
    with _in_a_crowd("tail", config) as tail:
        lane = bus.lane(**{"gilmsg.head_start": 20.0})
        return tail.answer, statistics.median(lane.timed(lambda: publish("crowd")) for _ in range(20))


@contextmanager
def _nobody(bus: Bus, count: int) -> Iterator[dict[str, list[str]]]:
    """Yield *count* dead endpoints, on as many addresses; Linux has the whole of 127.0.0.0/8 on loopback."""
    ports = [bus.free_port(), bus.free_port()]
    with deaf(ports[1]):
        yield {
            f"dead{n:04}": [f"tcp://127.1.{n // 250}.{1 + n % 250}:{ports[n % 2]}"] for n in range(count)
        }
