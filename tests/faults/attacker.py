"""A hostile process among real recipients: ``python -m tests.faults.attacker``.

It has what anybody on the bus can have: all that is said there, keys that the CA issued to others or
took back, and every certificate; but neither alice's nor bob's key. It lives as long as its stdin, on
which it is told what to do, in JSON lines: first where everybody is, then one order after the other.
It says on stdout what it hears and sends. The orders:

- ``forge``: try every attack of attacks.py on that *message*, once alice's ACK for it is heard;
- ``pass on``: be the man in the middle, who replaces some bytes, until the next order;
- ``announce``: claim to be that *name*, until the next order.
"""

import hashlib
import json
import os
import queue
import sys
import threading

import zmq

from ..helpers import announcement
from .attacks import ACK, ATTACKS, Chance
from .talker import say


class Attacker:
    def __init__(self, means):
        self._loot = means["loot"]
        self._endpoints = means["endpoints"]
        self._orders = queue.Queue()
        self._context = zmq.Context()
        self._ear = self._subscriber(("publisher", "alice", "bob"), "attacker")
        self._mouth = self._context.socket(zmq.XPUB)
        self._mouth.bind(self._endpoints["hostile"][0])
        #: (certificate, the msg_id that is confirmed) -> ACK
        self._acks = {}

    def obey(self):
        """Follow the orders until stdin ends."""
        threading.Thread(target=self._read, daemon=True).start()
        say("ready")
        while True:
            self._listen(20)
            if not self._orders.empty():
                order = self._orders.get()
                getattr(self, "_" + order.pop("order").replace(" ", "_"))(**order)

    def _read(self):
        for line in sys.stdin:
            self._orders.put(json.loads(line))
        os._exit(0)

    def _subscriber(self, names, claims):
        """A socket that hears all that *names* say; it calls itself *claims*."""
        subscriber = self._context.socket(zmq.SUB)
        subscriber.subscribe(b"")
        subscriber.subscribe(announcement("", claims))
        for name in names:
            for endpoint in self._endpoints[name]:
                subscriber.connect(endpoint)
        return subscriber

    def _listen(self, milliseconds):
        """Hear, for a while, who acknowledges what."""
        if not self._ear.poll(milliseconds):
            return
        topic, body = self._ear.recv_multipart()
        message = json.loads(body)
        if topic.decode() == ACK:
            of, confirmed = message.get("certificate"), message["msg"]["ack_msg_id"]
            self._acks[of, confirmed] = message
            say("ack", certificate=of, msg_id=confirmed)

    def _forge(self, message, said, alice, bob):
        """Attack; *alice* and *bob* are their certificates."""
        old = [ack for (of, _), ack in self._acks.items() if of == bob][-1]
        while (alice, message["msg_id"]) not in self._acks:
            self._listen(20)
        ack = self._acks[alice, message["msg_id"]]
        chance = Chance(message, ack, old, said, self._loot)
        for name, attack in ATTACKS.items():
            frames = attack(chance)
            self._mouth.send_multipart(frames)
            say("sent", attack=name, sha256=hashlib.sha256(frames[1]).hexdigest())
        say("done")

    def _pass_on(self, of, at, claims, instead):
        before, after = (text.encode() for text in instead)
        ear, mouth = self._subscriber([of], claims), self._context.socket(zmq.XPUB)
        mouth.bind(at)
        said = False
        while self._orders.empty():
            if not said and mouth.poll(0):
                said = True
                say("victim")
            if ear.poll(20):
                topic, body = ear.recv_multipart()
                mouth.send_multipart([topic, body.replace(before, after)])
        ear.close(linger=0)
        mouth.close(linger=0)
        say("rests")

    def _announce(self, name):
        ear = self._subscriber(["publisher"], name)
        while self._orders.empty():
            if ear.poll(20):
                ear.recv_multipart()
                say("got")
        ear.close(linger=0)
        say("rests")

    def _rest(self):
        """Do nothing; it ends what was done before."""


if __name__ == "__main__":
    Attacker(json.loads(sys.stdin.readline())).obey()
