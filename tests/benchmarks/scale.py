"""Two sizes of all studies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple


class Scale(NamedTuple):
    rounds: int
    calls: int
    starts: int
    recipients: Sequence[int]
    outstanding: int
    timeouts: int
    endpoints: int
    subscriptions: int
    #: Rows of an outbox: that are delivered at a time; that wait for nobody, few and many; that were delivered long ago.
    delivered: int
    waiting: Sequence[int]
    stored: int

    @staticmethod
    def say(line: str) -> None:
        """Tell whoever waits; stdout belongs to the figures."""
        print(line, file=sys.stderr, flush=True)


FULL = Scale(15, 40, 9, (1, 2, 8, 32, 128, 500), 500, 200, 2000, 10_000, 5000, (1000, 100_000), 1_000_000)
QUICK = Scale(5, 10, 3, (1, 8, 32), 100, 50, 300, 500, 200, (200, 2000), 20_000)
