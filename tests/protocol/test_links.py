"""Connections as a monitor tells of them: up, down, given up by libzmq, made anew at decent intervals."""

import pytest

from gilmsg._protocol import DOWN, RETRIED, UP, Links

ADDRESS, ENDPOINT = "tcp://10.0.0.1:3000", "tcp://alice.example:3000"
EVENTS = {"U": UP, "D": DOWN, "R": RETRIED}


def links(*events):
    found = Links()
    found.expect(ADDRESS, ENDPOINT)
    for event, now in events:
        found.note(event, ADDRESS, now)
    return found


@pytest.mark.parametrize(
    ("events", "up", "due"),
    [
        ("", False, None), ("U1", True, None), ("U1 U1.5", True, None), ("R1 R2", False, None), ("D2", False, 2.5),
        ("U1 D2", False, 2.5), ("U1 D2 R2.4", False, None), ("U1 D2 U2.4", True, None),
        ("U1 D2 R2.1 R3", False, None), ("U1 D2 R2.1 U3", True, None), ("U1 D2 R2.1 U3 D4", False, 4.5),
    ],
)  # fmt: skip
def test_a_link_is_up_after_its_handshake_and_given_up_after_its_end(events, up, due):
    """libzmq says at once that it tries again; when it has said nothing for half a second, it never will: told once."""
    here = links(*((EVENTS[one[0]], float(one[1:])) for one in events.split()))
    assert (here.up(ENDPOINT), here.up("tcp://unknown:1"), here.next_due()) == (up, False, due)
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
    here, now, found = links((DOWN, 0.0)), 0.0, []
    for _ in moments:
        now = here.next_due()
        assert here.given_up(now) == [ADDRESS]
        found.append(now)
        here.note(UP, ADDRESS, now)
        here.note(DOWN, ADDRESS, now + lasting)
    assert found == pytest.approx(moments)


def test_an_endpoint_may_have_several_addresses():
    """It is up while one of them is; each counts for all that name it."""
    here, other = links((UP, 1.0)), "tcp://10.0.0.2:3000"
    here.expect(other, ENDPOINT)
    here.expect(other, "tcp://other:3000")
    here.note(UP, other, 1.0)
    here.note(DOWN, ADDRESS, 2.0)
    assert here.up(ENDPOINT)
    here.note(DOWN, other, 3.0)
    assert (here.up(ENDPOINT), here.up("tcp://other:3000")) == (False, False)
    assert (here.next_due(), here.given_up(9.0)) == (2.5, [ADDRESS, other])


def test_what_is_forgotten_tells_nothing():
    """An address that is connected to no more is neither up nor given up, and its late events are ignored."""
    here = links((UP, 1.0), (DOWN, 2.0))
    assert here.forget(ADDRESS, ENDPOINT)
    assert here.forget(ADDRESS, ENDPOINT)
    here.note(UP, ADDRESS, 3.0)
    here.note(DOWN, "tcp://10.9.9.9:1", 3.0)
    assert (here.up(ENDPOINT), here.given_up(9.0), here.next_due()) == (False, [], None)
    here.expect(ADDRESS, ENDPOINT)
    here.note(UP, ADDRESS, 4.0)
    assert here.up(ENDPOINT)


def test_an_address_of_two_endpoints_is_kept_for_the_other():
    """Two names of one host: where one moves, the other's connection stays, and there is one for both."""
    here = links((UP, 1.0))
    assert not here.expect(ADDRESS, "tcp://alias:3000")
    assert not here.forget(ADDRESS, "tcp://alias:3000")
    assert (here.up(ENDPOINT), here.up("tcp://alias:3000")) == (True, False)
    assert here.forget(ADDRESS, ENDPOINT)
    assert not here.up(ENDPOINT)
    assert here.expect(ADDRESS, ENDPOINT)
