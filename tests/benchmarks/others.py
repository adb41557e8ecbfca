"""The study of other confirmed publishes, where they happen to be installed: for orientation, no goal."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Callable, NamedTuple

from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, Outcome, median, ratio, with_progress
from tests.benchmarks.members import publish
from tests.benchmarks.parties import Bus, Child
from tests.benchmarks.scale import Scale


class Rival(NamedTuple):
    """One way to publish; see rivals.py for *what* it does and *consumer* does beside it."""

    name: str
    what: str
    #: Python modules and executables.
    needs: Sequence[str]
    server: Callable[[], AbstractContextManager[int]]
    consumer: str
    #: What its answer proves, and what not.
    proves: str


RIVALS = [
    Rival(
        "NATS request/reply", "nats_request", ["nats", "nats-server"], servers.nats, "nats_answers",
        "unsigned; a consumer answers, whoever it is; nothing is stored",
    ),
    Rival(
        "NATS JetStream publish", "nats_jetstream", ["nats", "nats-server"], servers.nats, "nats_answers",
        "unsigned; the broker answers, once it is stored",
    ),
    Rival(
        "RabbitMQ publisher confirm", "rabbitmq_confirms", ["pika", "rabbitmq-server", "epmd"],
        servers.rabbitmq, "rabbitmq_consumes",
        "unsigned; the broker answers, the consumer's ack ends there",
    ),
    Rival(
        "fedora-messaging api.publish", "fedora_messaging_publish",
        ["fedora_messaging", "pika", "rabbitmq-server", "epmd"], servers.rabbitmq, "rabbitmq_consumes",
        "unsigned; the broker answers, the consumer's ack ends there",
    ),
]  # fmt: skip


def others(scale: Scale) -> Outcome:
    """Measure those that are installed beside gilmsg.publish; say of the others that they are not."""
    present = [rival for rival in RIVALS if _installed(rival, scale.say)]
    if not present:
        return Outcome([])
    batches: dict[str, Callable[[int], list[float]]] = {}
    with ExitStack() as stack:
        bus = stack.enter_context(Bus(["tail"]))
        bus.tail("tail")
        lane = bus.lane()
        batches["ours"] = lambda count: [lane.timed(lambda: publish("tail")) for _ in range(count)]
        ports: dict[Any, int] = {}
        for rival in present:
            try:
                batches[rival.name] = _ready(rival, stack, ports)
            except (OSError, TimeoutError) as error:
                scale.say(f"{rival.name}: not measured, it does not come up: {error}")
        results = _in_turns(batches, scale)
    figures = []
    for rival in present:
        if rival.name in batches:
            took = results[rival.name]
            figures.append(Figure(rival.name, 1000 * median(took), "ms", note=rival.proves))
            times = ratio(took, results["ours"])
            figures.append(Figure(rival.name + " / tail", times, "x", worthy=True, note=rival.proves))
    return Outcome(figures)


def _installed(rival: Rival, say: Callable[[str], None]) -> bool:
    missing = [one for one in rival.needs if not (_importable(one) or shutil.which(one))]
    if missing:
        say("{}: not measured, not installed: {}".format(rival.name, ", ".join(missing)))
    return not missing


def _importable(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def _ready(rival: Rival, stack: ExitStack, ports: dict[Any, int]) -> Callable[[int], list[float]]:
    """Start the rival, with its server and consumer if nobody has yet; return what publishes a batch."""
    if rival.server not in ports:
        ports[rival.server] = stack.enter_context(rival.server())
        _start(rival.consumer, ports[rival.server], stack)
    publisher: Callable[[int], list[float]] = _start(rival.what, ports[rival.server], stack).ask
    return publisher


def _start(what: str, port: int, stack: ExitStack) -> Child:
    return stack.enter_context(Child("tests.benchmarks.rivals", {"what": what, "port": port}))


def _in_turns(batches: dict[str, Callable[[int], list[float]]], scale: Scale) -> dict[str, list[list[float]]]:
    for batch in batches.values():
        batch(5)  # warm
    results: dict[str, list[list[float]]] = {name: [] for name in batches}
    for _ in with_progress(range(scale.rounds), "rounds"):
        for name, batch in batches.items():
            results[name].append(batch(scale.calls))
    return results
