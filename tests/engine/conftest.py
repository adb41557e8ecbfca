"""A bus for the engine's own tests: raw sockets, an address book, a verifier that believes in names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import zmq

from gilmsg import _engine
from gilmsg._engine import Address
from gilmsg._protocol import announcement, digest_of
from tests import inside

CONFIG: dict[str, Any] = {"zmq_reconnect_ivl": 20, "zmq_reconnect_ivl_max": 100, "zmq_linger": 1000}
TOPIC, ACKS = "org.example.dev.a", "org.example.dev.gilmsg.ack"
LIMIT = 30.0


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Return the first true value of *condition*."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"not within {LIMIT} s: {what}")


class Book:
    """An address book of one recipient."""

    ack_topic = ACKS

    def __init__(self, endpoint: str) -> None:
        self.publishing = {"backend01": [endpoint]}
        self.key = endpoint

    def of(self, common_name: str, via_relay: bool) -> list[str]:
        return self.publishing.get(common_name, [])


class Believer:
    """Takes the field "signer" for the proof; how signatures are verified is tests/trust's."""

    def signer_of(self, message: Any, covered: bytes) -> str:
        return str(message["signer"])

    def claimed_name(self, message: Any) -> str | None:
        return None


class Recipient:
    """A recipient of raw sockets: it announces itself, and answers when it is told to."""

    def __init__(self, port: int, publisher: int) -> None:
        self.context = zmq.Context()
        self.pub, self.sub = self.context.socket(zmq.XPUB), self.context.socket(zmq.SUB)
        self.sub.setsockopt(zmq.RECONNECT_IVL, 20)
        self.pub.bind(f"tcp://127.0.0.1:{port}")
        self.sub.connect(f"tcp://127.0.0.1:{publisher}")

    def announce(self, topic: str = TOPIC) -> None:
        self.sub.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.sub.setsockopt(zmq.SUBSCRIBE, announcement(topic, "backend01"))

    def heard(self, origin: str) -> None:
        """Return when the listener *origin* has subscribed here."""
        wanted = b"\x01" + announcement(ACKS, origin)
        until(lambda: self.pub.poll(10) and self.pub.recv() == wanted, "the listener's subscription")

    def received(self) -> str:
        """Return the id of the next message."""
        assert self.sub.poll(LIMIT * 1000), "no message came"
        return str(json.loads(self.sub.recv_multipart()[1])["msg_id"])

    def acknowledge(self, msg_id: str, digest: str) -> None:
        body = {"ack_msg_id": msg_id, "ack_digest": digest}
        self.pub.send_multipart([ACKS.encode(), json.dumps({"topic": ACKS, "signer": "backend01", "msg": body}).encode()])

    def close(self) -> None:
        self.context.destroy(linger=0)


class Bus:
    """A port of ours and one recipient."""

    def __init__(self) -> None:
        self.ports = inside.free_ports()
        ours, theirs = self.ports.take(), self.ports.take()
        self.theirs, self.ours = f"tcp://127.0.0.1:{theirs}", f"tcp://127.0.0.1:{ours}"
        self.address, self.book = Address("us", (self.ours,), False), Book(self.theirs)
        self.recipient = Recipient(theirs, ours)

    def port(self) -> _engine.Port:
        return _engine.publisher(self.address, self.book, CONFIG)

    def message(self, port: _engine.Port, msg_id: str, head_start: float = LIMIT, **given: Any) -> _engine.Message:
        wire = json.dumps({"msg_id": msg_id}).encode()
        fields: dict[str, Any] = {
            "msg_id": msg_id, "topic": TOPIC, "digest": digest_of(wire), "parts": [TOPIC.encode(), wire],
            "recipients": ["backend01"], "ack_timeout": LIMIT, "verifier": Believer(), "way": port.way(TOPIC),
            "outcome": _engine.Outcome(),
        }  # fmt: skip
        return port.message(head_start, **{**fields, **given})


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus; afterwards the engine has ended."""
    bus = Bus()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_engine, "_PATIENCE", LIMIT)  # a busy machine may need longer than users are kept waiting
        yield bus
        _engine.destroy()
    bus.recipient.close()
    bus.ports.close()
