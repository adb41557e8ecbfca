"""Connections as a monitor tells of them: up, down, given up by libzmq, made anew at decent intervals."""

import pytest

from gilmsg._protocol import DOWN, RETRIED, UP, Links

ADDRESS, ENDPOINT = "tcp://10.0.0.1:3000", "tcp://alice.example:3000"


def links(*events):
    found = Links()
    found.expect(ADDRESS, ENDPOINT)
    for event, now in events:
        found.note(event, ADDRESS, now)
    return found


@pytest.mark.parametrize(
    ("events", "up", "down_since"),
    [
        ([], False, None),
        ([(UP, 1.0)], True, None),
        ([(UP, 1.0), (DOWN, 2.0)], False, 2.0),
        ([(UP, 1.0), (DOWN, 2.0), (RETRIED, 2.1), (RETRIED, 3.0)], False, 2.0),
        ([(UP, 1.0), (DOWN, 2.0), (RETRIED, 2.1), (UP, 3.0)], True, None),
        ([(RETRIED, 1.0), (RETRIED, 2.0)], False, 1.0),
        ([(UP, 1.0), (UP, 1.5)], True, None),
    ],
    ids=["new", "up", "lost", "tried again", "back", "never there", "up twice"],
)
def test_a_link_is_up_after_its_handshake(events, up, down_since):
    """Down it is from the first event that says so until the next handshake."""
    here = links(*events)
    assert (here.up(ENDPOINT), here.down_since(ENDPOINT)) == (up, down_since)
    assert not here.up("tcp://unknown:1")


@pytest.mark.parametrize(
    ("events", "due"),
    [
        ([(UP, 1.0)], None),
        ([(UP, 1.0), (DOWN, 2.0)], 2.5),
        ([(DOWN, 2.0)], 2.5),
        ([(UP, 1.0), (DOWN, 2.0), (RETRIED, 2.4)], None),
        ([(UP, 1.0), (DOWN, 2.0), (UP, 2.4)], None),
        ([(UP, 1.0), (DOWN, 2.0), (RETRIED, 2.1), (UP, 3.0), (DOWN, 4.0)], 4.5),
    ],
    ids=["up", "silent", "never up", "tried again", "back", "silent later"],
)
def test_an_end_without_another_try_is_given_up(events, due):
    """libzmq says at once that it tries again; when it has said nothing for half a second, it never will. It is told once."""
    here = links(*events)
    assert here.next_due() == due
    assert here.given_up((due or 99.0) - 0.01) == []
    assert here.given_up(due or 99.0) == ([ADDRESS] if due else [])
    assert here.given_up(1e9) == []


@pytest.mark.parametrize(
    ("lasting", "moments"),
    [(0.1, [0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]), (20.0, [0.5, 21.0, 41.5])],
    ids=["ended at once each time", "lasted each time"],
)
def test_connections_are_made_anew_ever_more_rarely(lasting, moments):
    """After one second, then two, up to ten; and soon again after one that lasted."""
    here, now, found = links(), 0.0, []
    here.note(DOWN, ADDRESS, now)
    for _ in moments:
        now = here.next_due()
        assert here.given_up(now) == [ADDRESS]
        found.append(now)
        here.note(UP, ADDRESS, now)
        here.note(DOWN, ADDRESS, now + lasting)
    assert found == pytest.approx(moments)


def test_an_endpoint_may_have_several_addresses():
    """It is up while one of them is, and down since the last of them was; each counts for all that name it."""
    here = links()
    here.expect("tcp://10.0.0.2:3000", ENDPOINT)
    here.expect("tcp://10.0.0.2:3000", "tcp://other:3000")
    here.note(UP, ADDRESS, 1.0)
    here.note(UP, "tcp://10.0.0.2:3000", 1.0)
    here.note(DOWN, ADDRESS, 2.0)
    assert here.up(ENDPOINT)
    here.note(DOWN, "tcp://10.0.0.2:3000", 3.0)
    assert (here.up(ENDPOINT), here.down_since(ENDPOINT), here.down_since("tcp://other:3000")) == (False, 3.0, 3.0)
    assert (here.next_due(), here.given_up(9.0)) == (2.5, [ADDRESS, "tcp://10.0.0.2:3000"])


def test_what_is_forgotten_tells_nothing():
    """An address that is connected to no more is neither up nor given up, and its late events are ignored."""
    here = links((UP, 1.0), (DOWN, 2.0))
    here.forget(ADDRESS)
    here.forget(ADDRESS)
    here.note(UP, ADDRESS, 3.0)
    here.note(DOWN, "tcp://10.9.9.9:1", 3.0)
    assert (here.up(ENDPOINT), here.down_since(ENDPOINT), here.given_up(9.0), here.next_due()) == (False, None, [], None)
    here.expect(ADDRESS, ENDPOINT)
    here.note(UP, ADDRESS, 4.0)
    assert here.up(ENDPOINT)
