"""Dates of certificates."""

from datetime import datetime, timedelta, timezone

import pytest

from gilmsg._pki import issuing


@pytest.mark.parametrize("days, age, begins", [(30, 1, -1), (30, -1, 1), (0, 1, -1), (-1, 1, -2), (-2, -1, -3)])
def test_what_has_ended_had_begun(days, age, begins):
    """A span that is over lasted a day at least; any other begins as told."""
    before = datetime.now(timezone.utc)
    begin, end = issuing._span(days, age)
    after = datetime.now(timezone.utc)
    assert before <= begin - timedelta(days=begins) <= after
    assert before <= end - timedelta(days=days) <= after
