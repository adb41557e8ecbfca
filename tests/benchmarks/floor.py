"""The yardstick: what a confirmed message costs over bare pyzmq, without gilmsg and fedmsg.

*Signed floor*: one PUB/SUB pair there and one back, and on them just what the promise needs:
encode, sign with a kept key, send, decode, verify (the chain check is remembered, the
signature is checked every time), and the same for the ACK. *Transport floor*: the same
without signatures. Messages and ACKs have the fields, and so the size, of gilmsg's.

``python -m tests.benchmarks.floor`` is the answering side: any number of recipients in one
process, each with a socket and a name of its own. What they send are right ACKs, so that
gilmsg's publisher can be measured against the same recipients.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

import zmq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

TOPIC = b"org.example.dev.benchmark.message"
ACK_TOPIC = b"org.example.dev.gilmsg.ack"

#: Seconds after which a floor that is not answered is a fault of the benchmark.
LIMIT = 60.0


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def encode(message: dict[str, Any]) -> bytes:
    return _encoder.encode(message).encode("utf-8")


class Signer:
    """A key and its certificate, loaded once; without a file it signs nothing."""

    def __init__(self, base: str) -> None:
        self._base = base
        if base:
            with open(base + ".key", "rb") as stream:
                # Its check takes 40 ms, and there are a thousand recipients.
                self._key = serialization.load_pem_private_key(
                    stream.read(), None, unsafe_skip_rsa_key_validation=True
                )
            with open(base + ".crt", "rb") as stream:
                self._certificate = base64.encodebytes(stream.read()).decode("ascii")

    def wire(self, message: dict[str, Any]) -> tuple[bytes, str]:
        """Return the bytes to send and the digest of what they say."""
        message["crypto"] = "x509"
        canonical = encode(message)
        digest = hashlib.sha256(canonical).hexdigest()
        if not self._base:
            return canonical, digest
        signature = self._key.sign(canonical, padding.PKCS1v15(), hashes.SHA1())  # type: ignore
        message["signature"] = base64.encodebytes(signature).decode("ascii")
        message["certificate"] = self._certificate
        return encode(message), digest


class Verifier:
    """Checks signatures; who a certificate belongs to is remembered, as if its chain was checked."""

    def __init__(self, signed: bool) -> None:
        self._signed = signed
        self._known: dict[str, tuple[str, Any]] = {}

    def open(self, wire: bytes) -> tuple[dict[str, Any], str, str]:
        """Return the message, the digest of what it says, and who signed it."""
        message = json.loads(wire)
        signature = base64.b64decode(message.pop("signature", ""))
        certificate = message.pop("certificate", "")
        canonical = encode(message)
        name = message["username"]
        if self._signed:
            if certificate not in self._known:
                self._known[certificate] = _owner(certificate)
            name, key = self._known[certificate]
            key.verify(signature, canonical, padding.PKCS1v15(), hashes.SHA1())
        return message, hashlib.sha256(canonical).hexdigest(), name


def _owner(certificate: str) -> tuple[str, Any]:
    loaded = x509.load_pem_x509_certificate(base64.b64decode(certificate))
    name = loaded.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return str(name), loaded.public_key()


def compose(topic: bytes, body: dict[str, Any], number: int, username: str) -> dict[str, Any]:
    return {
        "topic": topic.decode("ascii"),
        "msg": body,
        "timestamp": int(time.time()),
        "msg_id": f"2026-{uuid.uuid4()}",
        "i": number,
        "username": username,
    }


class Floor:
    """The publishing side.

    Args:
        config: of a sandbox; ``endpoints`` has an entry for us and for each recipient.
        name: our name in ``endpoints``, and our key's in ``ssldir``.
        recipients: who must answer each message.
    """

    def __init__(self, config: dict[str, Any], name: str, recipients: list[str], signed: bool) -> None:
        self._names = set(recipients)
        self._signer = Signer("{}/{}".format(config["ssldir"], name) if signed else "")
        self._verifier = Verifier(signed)
        self._number = 0
        #: What each message holds beside its number and our marker.
        self.payload: dict[str, Any] = {}
        self._context: Any = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._pub = self._context.socket(zmq.XPUB)
        self._sub = self._context.socket(zmq.SUB)
        for socket in (self._pub, self._sub):
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
        self._pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._pub.bind(config["endpoints"][name][0])
        self._sub.subscribe(ACK_TOPIC)
        for recipient in recipients:
            self._sub.connect(config["endpoints"][recipient][0])
        self._wait_for_all(len(recipients))

    def _wait_for_all(self, expected: int) -> None:
        """Wait until every recipient listens, and every one of them can be heard."""
        deadline = time.monotonic() + LIMIT
        announced = 0
        while announced < expected:
            if not self._pub.poll(int(1000 * max(0.0, deadline - time.monotonic()))):
                raise TimeoutError("a recipient of the floor does not listen")
            announced += b"\0" in self._pub.recv()
        pending = set(self._names)
        while pending and time.monotonic() < deadline:
            self.send()
            while self._sub.poll(100):
                pending.discard(self._verifier.open(self._sub.recv_multipart()[1])[2])
        if pending:
            raise TimeoutError(f"recipients of the floor are not heard: {sorted(pending)}")

    def signed(self) -> tuple[dict[str, Any], bytes, str]:
        """Return the next message, its bytes to send and its digest."""
        self._number += 1
        body = {**self.payload, "n": self._number, "gilmsg": {"version": "1.0.0", "recipients": sorted(self._names)}}
        message = compose(TOPIC, body, self._number, "floor")
        return message, *self._signer.wire(message)

    def send(self) -> tuple[str, str]:
        """Send one message; return its id and digest."""
        message, wire, digest = self.signed()
        self._pub.send_multipart([TOPIC, wire])
        return message["msg_id"], digest

    def confirm(self) -> float:
        """Send one message; return the seconds until all have proven receipt."""
        began = time.perf_counter()
        self._collect(dict([self.send()]), len(self._names))
        return time.perf_counter() - began

    def pipelined(self, count: int) -> float:
        """Return the seconds in which *count* messages, all outstanding at once, are confirmed."""
        began = time.perf_counter()
        self._collect(dict(self.send() for _ in range(count)), count * len(self._names))
        return time.perf_counter() - began

    def _collect(self, digests: dict[str, str], expected: int) -> None:
        while expected:
            if not self._sub.poll(int(LIMIT * 1000)):
                raise TimeoutError("the floor is not answered")
            ack, _, name = self._verifier.open(self._sub.recv_multipart()[1])
            body = ack["msg"]
            if name in self._names and digests.get(body["ack_msg_id"]) == body["ack_digest"]:
                expected -= 1

    def close(self) -> None:
        self._context.destroy(linger=0)


class Answerer:
    """One recipient."""

    def __init__(self, context: Any, config: dict[str, Any], publisher: str, name: str, signed: bool) -> None:
        self._name = name
        self._signer = Signer("{}/{}".format(config["ssldir"], name) if signed else "")
        self._count = 0
        self.sub = context.socket(zmq.SUB)
        self.sub.setsockopt(zmq.RCVHWM, 0)
        self.sub.subscribe(TOPIC)
        # So that gilmsg sees a listener; the floor counts it.
        self.sub.subscribe(TOPIC + b"\0" + name.encode("ascii"))
        self._pub = context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.SNDHWM, 0)
        self._pub.bind(config["endpoints"][name][0])
        self.sub.connect(config["endpoints"][publisher][0])

    def answer(self, verifier: Verifier) -> None:
        message, digest, _ = verifier.open(self.sub.recv_multipart()[1])
        self._count += 1
        body = {"ack_msg_id": message["msg_id"], "ack_digest": digest}
        self.send(self._signer.wire(compose(ACK_TOPIC, body, self._count, self._name))[0])

    def send(self, wire: bytes) -> None:
        self._pub.send_multipart([ACK_TOPIC, wire])


def play(order: Sequence[Any], answering: type[Answerer] = Answerer) -> None:
    """Answer until stdin ends; *order* says as whom, and to whom; *answering* makes the recipients."""
    config, publisher, recipients, signed = order
    context: Any = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    verifier = Verifier(signed)
    answerers = {}
    poller = zmq.Poller()
    for name in recipients:
        answerer = answering(context, config, publisher, name, signed)
        answerers[answerer.sub] = answerer
        poller.register(answerer.sub, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    print(json.dumps("ready"), flush=True)
    while True:
        events = dict(poller.poll())
        if sys.stdin.fileno() in events:
            break
        for socket in events:
            answerers[socket].answer(verifier)
    context.destroy(linger=0)


if __name__ == "__main__":
    play(json.loads(sys.stdin.readline()))
