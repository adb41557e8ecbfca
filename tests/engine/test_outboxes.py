"""The engine's part in an outbox: a listener of several origins, ACKs one by one, recipients that appear."""

from __future__ import annotations

import threading
from typing import Any

from gilmsg import _engine
from gilmsg._engine import Reports
from gilmsg._protocol import checked_origin, digest_of

from .conftest import TOPIC, Bus, until


class Owner:
    """Takes in what is told, and on which threads."""

    def __init__(self) -> None:
        self.news: list[Any] = []
        self.threads: set[str] = set()
        self.reports = Reports(self.tell)

    def tell(self, batch: list[Any]) -> None:
        self.threads.add(threading.current_thread().name)
        self.news += batch

    def settle(self, result: Any, error: BaseException | None) -> None:
        self.reports.put(error or "settled")

    def told(self, *news: Any) -> None:
        until(lambda: self.news == list(news), f"{news} are told: {self.news}")
        assert self.threads == {"gilmsg-futures"}


def until_announced(bus: Bus, port: _engine.Port) -> None:
    """Let the recipient announce itself, and be seen to."""
    bus.recipient.announce()
    peers = port.way(TOPIC).peers
    until(lambda: port.look(lambda: peers.listens_since("backend01", TOPIC) is not None), "it is announced")


def test_a_listener_shows_each_origin_that_it_listens_as(bus: Bus) -> None:
    """A recipient sees at its own socket that the ACKs for an outbox's messages are awaited; again is no error."""
    port = bus.port()
    for _ in range(2):
        port.listen_as(checked_origin("0123abcd"))
    bus.recipient.heard(checked_origin("0123abcd"))
    assert bus.port().look(lambda: None) is None


def test_acks_are_told_one_by_one_and_late(bus: Bus) -> None:
    """On the thread of futures: of an attempt that has ended, too, until the next one takes its place."""
    port, owner = bus.port(), Owner()
    until_announced(bus, port)
    bus.recipient.heard(port.origin)
    names = ["backend01", "backend02"]

    def attempt(met: list[str]) -> _engine.Message:
        message = bus.message(
            port, "late", head_start=0.0, ack_timeout=0.2, recipients=names, outcome=owner, met=met, heard=owner.reports.put
        )  # fmt: skip
        message.thread = None
        return message

    first = attempt([])
    port.publish(first)
    assert bus.recipient.received() == "late"
    until(lambda: owner.news, "the attempt ends")
    [timeout] = owner.news
    assert sorted(timeout.missing) == names
    bus.recipient.acknowledge("late", digest_of(b'{"msg_id": "late"}'))
    owner.told(timeout, "backend01")
    port.publish(attempt(["backend01"]))
    until(lambda: len(owner.news) == 3, "the next attempt ends")
    assert list(owner.news[2].missing) == ["backend02"]


def test_who_has_met_is_not_waited_for_before_a_message_leaves(bus: Bus) -> None:
    """The head start is for those who are missing."""
    port = bus.port()
    bus.recipient.announce()
    message = bus.message(port, "one", recipients=["backend01", "gone"], met=["gone"], head_start=3600.0)
    port.publish(message)
    assert bus.recipient.received() == "one"


def test_who_appears_is_told(bus: Bus) -> None:
    """Who is there already, whoever comes, and comes again; not to a handle that was closed."""
    port, other = bus.port(), bus.port()
    until_announced(bus, port)
    ours, theirs = Owner(), Owner()
    port.watch(lambda *announced: ours.reports.put(announced))
    other.watch(lambda *announced: theirs.reports.put(announced))
    ours.told((TOPIC, "backend01"))
    theirs.told((TOPIC, "backend01"))
    other.close()
    bus.recipient.announce("org")
    ours.told((TOPIC, "backend01"), ("org", "backend01"))
    theirs.told((TOPIC, "backend01"))



def test_reports_come_in_order_and_none_is_lost() -> None:
    """In batches, whatever the thread of futures does meanwhile."""
    owner = Owner()
    for number in range(1000):
        owner.reports.put(number)
    until(lambda: len(owner.news) == 1000, "all are told")
    assert owner.news == list(range(1000))
