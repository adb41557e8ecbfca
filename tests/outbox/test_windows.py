"""Windows and pauses, by numbers."""

import pytest

from gilmsg.outbox import claims
from gilmsg.outbox.claims import Claimer, Window


def test_pauses_double_up_to_the_longest():
    """From one second to 300, with jitter of a quarter at most; after an appearance they begin anew."""
    for attempts, least in [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)]:
        found = [claims.pause(attempts) for _ in range(100)]
        assert least <= min(found) < max(found) <= least * 1.25
    assert 300 <= claims.pause(claims.MANY) <= 375
    assert 7 <= claims.pause(50, at_most=7.0) <= 8.75
    assert 1 <= claims.pause(50, at_most=0.0) <= 1.25


def test_a_window_halves_once_for_all_that_left_before():
    """A full window times out at once: that is one event; what left later is another one. ACKs widen it again."""
    window = Window(100)
    for _ in range(100):
        window.timed_out(sent_at=10.0, now=15.0)
    assert window.size == 50
    window.timed_out(sent_at=16.0, now=21.0)
    assert window.size == 25
    for now in range(30, 80):
        window.timed_out(sent_at=now, now=now)
    assert window.size == 1
    for _ in range(200):
        window.confirmed()
    assert window.size == 100


@pytest.mark.parametrize(
    ("under_way", "away", "room", "alone"), [(100, False, 0, 0), (99, False, 1, 1), (200, True, 70, 0), (40, True, 70, 60)]
)
def test_who_is_away_limits_nobody_else(under_way, away, room, alone):
    """What is sent to nobody overruns nobody; who is there takes no more than its window."""
    claimer = Claimer(window=100, lease=10.0)
    claimer.windows["a"].under_way = 30
    claimer.windows["b"].under_way, claimer.windows["b"].away = under_way, away
    assert claimer.room(["a", "b", "c"]) == room
    assert claimer.room(["b"]) == alone
    assert claimer.room(["c"]) == 100
