"""Windows, pauses and arrivals, by numbers."""

import pytest

from gilmsg.outbox import arrivals, windows
from gilmsg.outbox.windows import Window, Windows


def test_pauses_double_up_to_the_longest():
    """From one second to 300, with jitter of a quarter at most; after an appearance they begin anew."""
    for attempts, least in [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)]:
        found = [windows.pause(attempts) for _ in range(100)]
        assert least <= min(found) < max(found) <= least * 1.25
    assert 300 <= windows.longest_pause() <= 375
    assert 7 <= windows.pause(50, at_most=7.0) <= 8.75
    assert 1 <= windows.pause(50, at_most=0.0) <= 1.25


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
    known = Windows(100)
    known.of("a").under_way = 30
    known.of("b").under_way, known.of("b").away = under_way, away
    assert known.room(["a", "b", "c"]) == room
    assert known.room(["b"]) == alone
    assert known.room(["c"]) == known.room([]) == 100


def test_windows_that_say_nothing_are_forgotten():
    """Recipients come and go: only those are remembered that are used, or narrow, or away."""
    known = Windows(10)
    known.of("used").under_way, known.of("narrow").size, known.of("away").away = 1, 3, True
    known.of("plain")
    known.tidy()
    assert sorted(known._windows) == ["away", "narrow", "used"]


def test_appearances_are_looked_up_once_a_second():
    """Of those only that are waited for, alone or in a group; a second one in the same second is not lost."""
    here = arrivals.Arrivals()
    assert here.next_due() is None
    here.add("alice")
    here.add("mallory")
    assert here.next_due() == 0.0
    assert here.look_up(["bob,alice", "alice", "carol"], 100.0) == ["bob,alice", "alice"]
    assert here.seen(["carol"]) == 0.0 and here.seen(["carol", "alice"]) == 100.0
    here.add("alice")
    assert here.next_due() == 101.0


def test_names_of_strangers_are_bounded(monkeypatch):
    """Anybody may announce any number of names."""
    monkeypatch.setattr(arrivals, "_MOST", 3)
    here = arrivals.Arrivals()
    for number in range(10):
        here.add(str(number))
    assert here.look_up(map(str, range(10)), 1.0) == ["0", "1", "2"]
