"""Figures: a name, a value, a unit, and the goal where there is one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import tqdm


class Figure(NamedTuple):
    name: str
    value: float
    unit: str
    #: "<=" or ">=" and a number.
    goal: str = ""
    #: What the reader must know to compare it.
    note: str = ""
    #: Whether it is worth a line in the documentation; what has a goal is.
    worthy: bool = False

    @property
    def met(self) -> bool | None:
        """Tell if the goal is met; None without one."""
        if not self.goal:
            return None
        relation, number = self.goal.split()
        return self.value <= float(number) if relation == "<=" else self.value >= float(number)

    @classmethod
    def of(cls, one: dict[str, Any]) -> Figure:
        """Return the figure that ``as_dict`` has turned into *one*."""
        return cls(**{field: one[field] for field in cls._fields})

    def as_dict(self) -> dict[str, Any]:
        return dict(self._asdict(), met=self.met)


def median_of(runs: Sequence[Figure]) -> Figure:
    """Return a figure that was measured in several runs as one."""
    return runs[0]._replace(value=statistics.median(one.value for one in runs))


class Outcome(NamedTuple):
    """The result of a study."""

    figures: list[Figure]
    #: What the plots need: name -> seconds, or name -> {recipients: seconds}.
    curves: dict[str, Any] | None = None


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that *call* takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternate(
    contestants: dict[str, Callable[[], float]], rounds: int, calls: dict[str, int]
) -> dict[str, list[list[float]]]:
    """Let each contestant run in each round, in turn, so that a drift of the machine hits all.

    Returns the seconds that each call reported: contestant -> rounds -> calls.
    """
    results: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in with_progress(range(rounds), "rounds"):
        for name, call in contestants.items():
            results[name].append([call() for _ in range(calls.get(name, 1))])
    return results


def with_progress(steps: Sequence[Any], what: str) -> Any:
    """Iterate over *steps*, with a bar on stderr where that is a terminal."""
    return tqdm.tqdm(steps, desc="  " + what, disable=None, leave=False)


def ratio(of: Sequence[Sequence[float]], over: Sequence[Sequence[float]]) -> float:
    """Return the median, over the rounds, of the ratio of the medians within each."""
    pairs = zip(map(statistics.median, of), map(statistics.median, over))
    return statistics.median(one / other for one, other in pairs)


def median(rounds: Sequence[Sequence[float]]) -> float:
    """Return the median of all calls."""
    return statistics.median(flat(rounds))


def flat(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for one in rounds for value in one]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* (0 to 1) of *values* lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
