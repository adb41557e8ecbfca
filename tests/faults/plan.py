"""Which fault befalls whom, and when: a pure function of the seed."""
from __future__ import annotations

import random
from typing import NamedTuple


class Planned(NamedTuple):
    """A fault to come; times in seconds from the beginning of the run."""

    at: float
    kind: str
    who: str
    lasts: float
    peer: str | None = None


#: Kind -> the shortest and longest time it lasts. A killed process is down for so long.
RECIPIENT = {
    "kill": (0.0, 2.0),
    "restart": (0.0, 1.0),
    "stop": (0.2, 8.0),
    "stop, then kill": (0.1, 2.0),
    "slow consumer": (0.5, 4.0),
}
PUBLISHER = {"kill": (0.0, 1.0), "stop": (0.2, 8.0)}

#: Only where there are hosts. ``deaf``: what comes in is dropped; ``mute``: what goes out.
PARTITIONS = {
    "partition": (0.3, 9.0),
    "partition, deaf": (0.3, 9.0),
    "partition, mute": (0.3, 9.0),
    "partition from one peer": (0.3, 9.0),
    "cable out": (0.3, 9.0),
}

#: Seconds to which a fault is cut at the end of the run.
_SHORTEST = 0.5

#: Seconds before the first fault of a participant, and between two.
_CALM = (0.5, 5.0)
_QUIET = (3.0, 12.0)


def plan(seed, seconds, recipients, publishers, partitions) -> list[Planned]:
    """Return the faults of a run, in order of time; never two at once for one participant."""
    planned = of_side(seed, seconds, recipients, RECIPIENT, partitions and publishers)
    return sorted(planned + of_side(seed, seconds, publishers, PUBLISHER, partitions and recipients))


def of_side(seed, seconds, names, kinds, peers) -> list[Planned]:
    """Return the faults of these *kinds*, and partitions where there are *peers*, that befall each of *names*."""
    planned = []
    for name in names:
        chance = random.Random(f"{seed}/plan/{name}")
        planned += _of_one(chance, name, {**kinds, **(PARTITIONS if peers else {})}, seconds, peers)
    return planned


def _of_one(chance, name, kinds, seconds, peers):
    at = chance.uniform(*_CALM)
    while at < seconds:
        kind = chance.choice(sorted(kinds))
        lasts = min(chance.uniform(*kinds[kind]), max(_SHORTEST, seconds - at))
        peer = chance.choice(peers) if kind == "partition from one peer" else None
        yield Planned(at, kind, name, lasts, peer)
        at += lasts + chance.uniform(*_QUIET)
