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

    @staticmethod
    def say(line: str) -> None:
        """Tell whoever waits; stdout belongs to the figures."""
        print(line, file=sys.stderr, flush=True)


FULL = Scale(15, 40, 9, (1, 2, 8, 32, 128, 500), 500, 200, 2000)
QUICK = Scale(5, 10, 3, (1, 8, 32), 100, 50, 300)
