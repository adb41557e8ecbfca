"""The studies: each measures one thing in one run, and returns its figures."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from typing import Callable

import fedmsg

import gilmsg
from tests.benchmarks.figures import Figure, Outcome, alternate, flat, median, percentile, ratio, with_progress
from tests.benchmarks.former import threads
from tests.benchmarks.loads import loads
from tests.benchmarks.loops import loops
from tests.benchmarks.many import endpoints, recipients
from tests.benchmarks.members import publish, publish_at_once
from tests.benchmarks.others import others
from tests.benchmarks.outbox import delivery, putting, rows
from tests.benchmarks.parties import Bus
from tests.benchmarks.scale import Scale
from tests.processes import module


def latency(scale: Scale) -> Outcome:
    """One message to one recipient: the floors, a tail, a hub, a relay, and plain fedmsg."""
    with Bus(["tail", "hub"], relay=True) as bus:
        bus.tail("tail")
        bus.hub()
        signed, bare = bus.floor(["signed"]), bus.floor(["bare"], signed=False)
        ours, plain, relayed = bus.lane(), bus.plain_lane(), bus.lane(active=True, name="relay_inbound")
        contestants = {
            "transport floor": bare.confirm,
            "signed floor": signed.confirm,
            "gilmsg.publish, tail": lambda: ours.timed(lambda: publish("tail")),
            "gilmsg.publish, hub": lambda: ours.timed(lambda: publish("hub")),
            "gilmsg.publish, relay": lambda: relayed.timed(lambda: publish("tail")),
            "fedmsg.publish, plain": lambda: plain.timed(plainly),
        }
        alternate(contestants, 1, {})  # warm
        calls = dict.fromkeys(contestants, scale.calls)
        calls["fedmsg.publish, plain"] = max(2, scale.calls // 8)  # for it takes some 40 times as long
        results = alternate(contestants, scale.rounds, calls)
    figures = [Figure(name, 1000 * median(results[name]), "ms", worthy=True) for name in contestants]
    tail, floor = results["gilmsg.publish, tail"], results["signed floor"]
    figures += [
        Figure("transport floor / signed floor", ratio(results["transport floor"], floor), "x"),
        Figure("tail / signed floor", ratio(tail, floor), "x", "<= 1.17"),
        Figure("hub / signed floor", ratio(results["gilmsg.publish, hub"], floor), "x", "<= 1.33"),
        Figure("relay / tail", ratio(results["gilmsg.publish, relay"], tail), "x", worthy=True),
        Figure("tail / plain fedmsg.publish", ratio(tail, results["fedmsg.publish, plain"]), "x", "<= 0.05"),
    ]
    return Outcome(figures, {name: flat(rounds) for name, rounds in results.items()})


def plainly() -> None:
    fedmsg.publish(topic="plain", modname="benchmark", msg={"n": 1})


def large_keys(scale: Scale) -> Outcome:
    """The same with RSA-4096."""
    with Bus(["tail"], bits=4096) as bus:
        bus.tail("tail")
        floor, ours, plain = bus.floor(["signed"]), bus.lane(), bus.plain_lane()
        contestants = {
            "floor": floor.confirm,
            "tail": lambda: ours.timed(lambda: publish("tail")),
            "plain": lambda: plain.timed(plainly),
        }
        calls = dict.fromkeys(contestants, max(3, scale.calls // 5))
        calls["plain"] = 2
        alternate(contestants, 1, {})  # warm
        results = alternate(contestants, max(3, scale.rounds // 2), calls)
    tail = results["tail"]
    return Outcome(
        [
            Figure("RSA-4096: tail / signed floor", ratio(tail, results["floor"]), "x", "<= 1.08"),
            Figure("RSA-4096: tail / plain fedmsg.publish", ratio(tail, results["plain"]), "x", "<= 0.025"),
        ]
    )


def acks(scale: Scale) -> Outcome:
    """The way of an ACK through the engine, against one that is sent from the tail's own thread."""
    with Bus(["engine", "own"]) as bus:
        bus.tail("engine")
        bus.tail("own", role="direct")
        floor, lane = bus.floor(["signed"]), bus.lane()
        contestants = {
            "floor": floor.confirm,
            "engine": lambda: lane.timed(lambda: publish("engine")),
            "own": lambda: lane.timed(lambda: publish("own")),
        }
        alternate(contestants, 1, {})  # warm
        results = alternate(contestants, scale.rounds, dict.fromkeys(contestants, scale.calls))
    rounds = [[statistics.median(one) for one in results[name]] for name in ("engine", "own", "floor")]
    more = statistics.median((engine - own) / floor for engine, own, floor in zip(*rounds))
    return Outcome([Figure("an ACK through the engine: more / signed floor", more, "x", "<= 0.03")])


def pipeline(scale: Scale) -> Outcome:
    """publish_async with many outstanding, against the floor's own pipelined rate."""
    count = scale.outstanding
    with Bus(["tail"]) as bus:
        bus.tail("tail")
        floor, ours = bus.floor(["signed"]), bus.lane()
        contestants = {"floor": lambda: floor.pipelined(count), "ours": lambda: ours.timed(lambda: publish_at_once(count))}
        alternate(contestants, 1, {})  # warm
        results = alternate(contestants, max(3, scale.rounds // 3), {})
    rate = ratio(results["floor"], results["ours"])
    return Outcome(
        [
            Figure(f"publish_async, {count} outstanding: rate", count / median(results["ours"]), "1/s", worthy=True),
            Figure("publish_async rate / floor's rate", rate, "x", ">= 0.93"),
        ]
    )


def deadlines(scale: Scale) -> Outcome:
    """How late a Timeout is, and what an outstanding message holds."""
    with Bus(["nobody"]) as bus:
        lane = bus.lane(**{"gilmsg.head_start": 0})

        def overrun() -> float:
            left: list[float] = []
            try:
                publish("nobody", ack_timeout=0.02, pre_fire_hook=lambda message: left.append(time.monotonic()))
            except gilmsg.Timeout:
                return time.monotonic() - left[0] - 0.02
            raise AssertionError("a recipient that is not there has answered")

        late = [lane.run(overrun) for _ in with_progress(range(scale.timeouts), "timeouts")]

        def outstanding() -> float:
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            futures = [
                gilmsg.publish_async(
                    topic="t", modname="benchmark", msg={"n": n}, recipients=["nobody"], ack_timeout=300.0
                )
                for n in range(scale.outstanding)
            ]
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            return held / len(futures)

        memory = lane.run(outstanding)
    return Outcome(
        [
            Figure("overrun of ack_timeout, p99", 1000 * percentile(late, 0.99), "ms", "<= 5"),
            Figure("memory per outstanding publish", memory / 1024, "KiB", worthy=True),
        ]
    )


def processes(scale: Scale) -> Outcome:
    """What a fresh process pays: the import, and the first publish to a warm recipient."""
    with Bus(["tail"]) as bus:
        bus.tail("tail")

        def importing(name: str) -> Callable[[], float]:
            return lambda: _fresh(bus.directory, name)[0]

        imports = {name: importing(name) for name in ("gilmsg", "fedmsg")}
        alternate(imports, 1, {})  # warm
        imported = alternate(imports, scale.starts, {})
        _fresh(bus.directory, "gilmsg", "2")  # warm, too
        starts = [_fresh(bus.directory, "gilmsg", "2") for _ in with_progress(range(scale.starts), "starts")]
    _, first, second = (1000 * statistics.median(seconds) for seconds in zip(*starts))
    return Outcome(
        [
            Figure("import gilmsg", 1000 * median(imported["gilmsg"]), "ms", worthy=True),
            Figure("import gilmsg / import fedmsg", ratio(imported["gilmsg"], imported["fedmsg"]), "x", "<= 1.1"),
            Figure("a fresh process: first publish", first, "ms", worthy=True),
            Figure("a fresh process: second publish", second, "ms"),
        ]
    )


def _fresh(directory: str, *arguments: str) -> list[float]:
    """Return what fresh.py prints; from the second time on it finds all byte code, as if installed."""
    environment = {
        "HOME": directory, "VIRTUAL_ENV": "",
        "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": directory + "/bytecode",
    }
    flags = ["-W", "ignore"]
    done = module("tests.benchmarks.fresh", *arguments, flags=flags, cwd=directory, env=environment)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


STUDIES: dict[str, Callable[[Scale], Outcome]] = {
    "latency": latency,
    "large-keys": large_keys,
    "acks": acks,
    "pipeline": pipeline,
    "asyncio": loops,
    "threads": threads,
    "recipients": recipients,
    "loads": loads,
    "deadlines": deadlines,
    "processes": processes,
    "endpoints": endpoints,
    "outbox-put": putting,
    "outbox-delivery": delivery,
    "outbox-rows": rows,
    "others": others,
}
