"""Who has acknowledged what, and until when: the ledger alone, with a clock of numbers."""

import pytest

from gilmsg._ledger import Entry, Ledger, Sent
from gilmsg.errors import ConfigurationError


def entry(msg_id, deadline, *recipients):
    return Entry(Sent(msg_id, "t", "digest", 0.0), recipients or ["alice"], deadline)


def test_one_id_is_expected_once():
    """A second entry of an id that is on its way is refused, and the first stays."""
    ledger, first = Ledger(), entry("1", 5)
    ledger.add(first)
    with pytest.raises(ConfigurationError, match="still waits"):
        ledger.add(entry("1", 9))
    assert ledger.expired(6) == [first] and len(ledger) == 0


def test_what_is_settled_does_not_expire():
    """Deadlines of entries that were removed come to nothing, also where the id is used again."""
    ledger, first, again, other = Ledger(), entry("1", 5), entry("1", 9), entry("2", 6)
    for one in (first, other):
        ledger.add(one)
    assert ledger.remove(first) and not ledger.remove(first)
    ledger.add(again)
    assert ledger.expired(7) == [other]
    assert ledger.expired(10) == [again]


def test_deadlines_of_settled_entries_take_no_memory():
    """However many entries were settled behind one that still waits, few deadlines are kept; that one's is."""
    ledger, first = Ledger(), entry("first", 5)
    ledger.add(first)
    for number in range(1000):
        one = entry(str(number), 1000 + number)
        ledger.add(one)
        ledger.remove(one)
        assert ledger.next_deadline() == 5
    assert len(ledger._deadlines) <= 70
    assert ledger.expired(5) == [first] and ledger.next_deadline() is None
