"""The studies of many: recipients of one message, and endpoints of one bus."""

import statistics
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

import gilmsg
from tests.benchmarks.figures import Figure, Outcome, alternate, median, timed, with_progress
from tests.benchmarks.floor import TOPIC
from tests.benchmarks.parties import Bus, publish
from tests.benchmarks.scale import Scale
from tests.helpers import deaf

from ..talking import Talker

SUFFIX = TOPIC.decode("ascii").rpartition(".")[2]


def recipients(scale: Scale) -> Outcome:
    """One message to many: the same bare recipients for the floor and for gilmsg's publisher."""
    times: Dict[str, Dict[int, float]] = {"signed floor": {}, "gilmsg.publish": {}}
    busy: Dict[str, Dict[int, float]] = {"signed floor": {}, "gilmsg.publish": {}}
    crypto: List[float] = []
    for count in with_progress(scale.recipients, "recipients"):
        crypto.append(_to_many(count, max(5, min(scale.rounds, 300 // count)), times, busy))
    ours, floor = times["gilmsg.publish"], times["signed floor"]
    figures = [
        Figure("%d recipients: gilmsg.publish" % count, 1000 * ours[count], "ms", worthy=count == max(ours))
        for count in ours
    ]
    figures += [
        Figure("%d recipients: gilmsg / floor" % count, ours[count] / floor[count], "x", worthy=True) for count in ours
    ]
    slower = _further(ours) / _further(floor)
    cpu, floors_cpu = _further(busy["gilmsg.publish"]), _further(busy["signed floor"])
    figures += [
        Figure("a further recipient: time", 1000 * _further(ours), "ms", worthy=True),
        Figure("a further recipient: time / floor's", slower, "x", "<= 1.5"),
        Figure("a further recipient: publisher's CPU", 1000 * cpu, "ms", worthy=True),
        Figure("a further recipient: CPU / (sign + verify)", cpu / statistics.median(crypto), "x", "<= 1.5"),
        Figure("a further recipient: CPU / floor's", cpu / floors_cpu, "x"),
    ]
    return Outcome(figures, times)


def _further(by: Dict[int, float]) -> float:
    """Return what one recipient more adds, from the smallest to the largest number of them."""
    least, most = min(by), max(by)
    return (by[most] - by[least]) / (most - least)


def _to_many(count: int, rounds: int, times: Dict[str, Any], busy: Dict[str, Any]) -> float:
    """Note time and the publisher's CPU of one message to *count* recipients; return those of sign + verify."""
    names = ["recipient%03d" % number for number in range(count)]
    with Bus(names) as bus:
        bus.bare(names)
        floor = bus.floor(["floor%03d" % number for number in range(count)])
        patient = {"gilmsg.head_start": 60.0, "ack_timeout": 60.0}

        def ours() -> None:
            gilmsg.publish(
                topic=SUFFIX, modname="benchmark", msg={"n": 1}, recipients=names, **dict(bus.config, **patient)
            )

        spent: Dict[str, List[float]] = {"signed floor": [], "gilmsg.publish": []}
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


def _accounted(call: Callable[[], Any], spent: List[float]) -> float:
    """Return the seconds that *call* takes; add the CPU's, of all our threads, to *spent*."""
    before = time.process_time()
    seconds = timed(call)
    spent.append(time.process_time() - before)
    return seconds


def sign_and_verify(times: int = 20) -> Callable[[], float]:
    """Return a call that returns the CPU seconds of one signature and one verification, nothing else."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    from gilmsg.sandbox.pki import new_key

    key, text = new_key(), b"x" * 500
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
    label = "%d endpoints: " % count
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


def _publisher(config: Dict[str, Any]) -> Dict[str, float]:
    talker = Talker("tests.benchmarks.crowd", {"role": "publisher", "config": config})
    try:
        return dict(talker.wait_for("figures", 60.0)["figures"])
    finally:
        talker.stop()


def _tail(bus: Bus, config: Dict[str, Any]) -> Tuple[Dict[str, float], float]:
    """Return what the tail measured, and the seconds of a confirmed message to it."""
    talker = Talker("tests.benchmarks.crowd", {"role": "tail", "config": config})
    try:
        figures = dict(talker.wait_for("figures", 60.0)["figures"])
        lane = bus.lane(**{"gilmsg.head_start": 20.0})
        return figures, statistics.median(lane.timed(lambda: publish("crowd")) for _ in range(20))
    finally:
        talker.stop()


@contextmanager
def _nobody(bus: Bus, count: int) -> Iterator[Dict[str, List[str]]]:
    """Yield *count* dead endpoints, on as many addresses; Linux has the whole of 127.0.0.0/8 on loopback."""
    ports = [bus.free_port(), bus.free_port()]
    with deaf(ports[1]):
        yield {
            "dead%04d" % n: ["tcp://127.1.%d.%d:%d" % (n // 250, 1 + n % 250, ports[n % 2])]
            for n in range(count)
        }
