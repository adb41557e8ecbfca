"""The order in which the tests run: a matter of chance, and one that can be had again."""

import itertools
from typing import NamedTuple

import pytest

from .conftest import in_order


class Item(NamedTuple):
    """What tests/conftest.py looks at. (Made here: which real ones there are, and are long, depends on what is run.)"""

    path: str
    nodeid: str
    long: bool

    def get_closest_marker(self, name):
        return self.long and name == "long"


ITEMS = [
    Item(path, "%s::%d" % (path, number), number == 0 and path in "ace")
    for path in "abcdefghij" for number in range(10)
]


def test_a_seed_is_an_order():
    """The same seed gives the same order of the same tests, however they were found; another gives another."""
    orders = [in_order(ITEMS, str(seed), 5) for seed in range(20)]
    assert orders == [in_order(ITEMS[::-1], str(seed), 5) for seed in range(20)]
    assert all(sorted(order) == ITEMS for order in orders)
    assert len(set(map(tuple, orders))) == 20


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_modules_tests_stay_together(seed):
    """What the fixtures of a module start is started once."""
    order = [item.path for item in in_order(ITEMS, seed, 5) if not item.long]
    assert len(list(itertools.groupby(order))) == 10


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_long_tests_start_first(seed):
    """Each worker's share begins with one, until there are no more."""
    order = in_order(ITEMS, seed, 2)
    # Two for the worker that takes the first half of a hundred, and one, moved on by these, for the other.
    assert [number for number, item in enumerate(order) if item.long] == [0, 1, 51]
