"""gilmsg.aio beside gilmsg: one message after the other, many at once, and how long the loop's other tasks wait."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import gilmsg
import gilmsg.aio
from tests.benchmarks.figures import Figure, Outcome, alternate, median, percentile, ratio
from tests.benchmarks.members import LIMIT, publish, publish_at_once
from tests.benchmarks.parties import Bus
from tests.benchmarks.scale import Scale


def loops(scale: Scale) -> Outcome:
    """One message to a tail from an event loop and from a thread; and twice as many at once as `pipeline` has outstanding."""
    count = 2 * scale.outstanding
    waits: list[float] = []
    frozen: list[float] = []
    with Bus(["tail"]) as bus:
        bus.tail("tail")
        lane = bus.lane()
        loop = lane.run(asyncio.new_event_loop)

        def under_asyncio(main: Any) -> float:
            return lane.timed(lambda: loop.run_until_complete(main()))

        contestants = {
            "publish": lambda: lane.timed(lambda: publish("tail")),
            "aio.publish": lambda: under_asyncio(one),
        }
        crowds = {
            "publish_async": lambda: lane.timed(lambda: publish_at_once(count)),
            "aio.publish": lambda: under_asyncio(lambda: crowd(count)),
            "beside": lambda: under_asyncio(lambda: beside(count, waits)),
        }
        for several in contestants, crowds:
            alternate(several, 1, {})  # warm
        waits.clear()
        single = alternate(contestants, scale.rounds, dict.fromkeys(contestants, scale.calls))
        many = alternate(crowds, max(3, scale.rounds // 3), {})
        gc.collect()
        gc.freeze()  # as a service does after its imports: what is left is gilmsg's share
        for _ in range(max(3, scale.rounds // 3)):
            under_asyncio(lambda: beside(count, frozen))
        gc.unfreeze()
        lane.run(loop.close)
    return Outcome(
        [
            Figure("gilmsg.aio.publish, tail", 1000 * median(single["aio.publish"]), "ms"),
            Figure("aio.publish / publish", ratio(single["aio.publish"], single["publish"]), "x", worthy=True),
            Figure(f"aio.publish / publish_async, {count} at once", ratio(many["aio.publish"], many["publish_async"]), "x", worthy=True),
            Figure("another task beside them comes late by, median", 1000 * percentile(waits, 0.5), "ms"),
            Figure("another task beside them comes late by, at most", 1000 * max(waits), "ms", worthy=True),
            Figure("the same after gc.freeze()", 1000 * max(frozen), "ms", "<= 50", worthy=True),
        ]
    )


def options(number: int) -> dict[str, Any]:
    return {"topic": "tail", "modname": "benchmark", "msg": {"n": number}, "recipients": ["tail"], "ack_timeout": LIMIT}


async def one() -> None:
    await gilmsg.aio.publish(**options(1))


async def crowd(count: int) -> None:
    await asyncio.gather(*(gilmsg.aio.publish(**options(number)) for number in range(count)))


async def beside(count: int, waits: list[float]) -> None:
    """Publish *count* messages at once; note by how much another task, which sleeps for a ms, comes late each time."""

    async def turns() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - began - 0.001)

    other = asyncio.ensure_future(turns())
    await crowd(count)
    other.cancel()
