"""An outbox with a message or more in it."""

import contextlib

import pytest

from gilmsg.outbox import Outbox

#: No file is needed where the call names endpoints.
CONFIG = {"topic_prefix": "org.example", "environment": "dev", "endpoints": {}}


@pytest.fixture
def box(place):
    """An outbox; see the fixture ``place``."""
    with contextlib.closing(Outbox(place)) as box:
        yield box


@pytest.fixture
def put(box):
    """Puts a message for the recipients that are named; returns its id."""
    return lambda *recipients, **options: box.put(topic="t", msg={}, recipients=recipients, **CONFIG, **options)
