"""One run of the outbox: the cast, the faults as planned, the time to mend, and the history that comes of it."""

import contextlib
import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

import gilmsg.outbox

from ... import databases
from ...processes import wait_for
from .. import cast
from ..ordeal import Ordeal
from ..plan import PUBLISHER, RECIPIENT, of_side
from . import actors, places
from .history import OPEN, Done, Handed, History, Put, Stored

#: The second publisher is a deliverer, too.
PUBLISHERS = ["publisher1", "publisher2"]
DELIVERERS = ["deliverer1", "deliverer2"]
RECIPIENTS = ["alice", "bob", "carol"]
HUB = "carol"
INBOXES = ("bob", "carol")

#: Seconds. The shorter the lease that comes of them, the more are outlived.
SETTINGS = {"gilmsg.head_start": 1.0, "gilmsg.outbox.ack_timeout": 1.5, "gilmsg.outbox.keep": 10.0}

#: Who delivers may be stopped for longer than a lease.
_DELIVERER = {**RECIPIENT, "stop": (0.2, 12.0)}
del _DELIVERER["slow consumer"]

#: Seconds in which publishers end what they have begun, and in which everything is delivered then: longer than the longest
#: pause, which a deliverer that is killed leaves to a message when it alone did not see the recipient.
_FINISH, _DRAINED = 45.0, 400.0


class Run(Ordeal):
    """A context manager; ``play`` returns the history for the checker, and in ``drained`` the seconds that the rest took.

    Args:
        seed, seconds, partitions: see `Ordeal`.
        database (str): "sqlite" or "postgresql".
        forgetful (bool): let alice acknowledge every second message and lose it; the checker has to find it.
    """

    def __init__(self, seed, seconds, partitions, database, forgetful=False):
        names = PUBLISHERS + DELIVERERS + RECIPIENTS
        super().__init__(seed, seconds, partitions, names)
        self._places = places.KINDS[database](self.folder)
        self._forgetful = ["alice"] if forgetful else []
        self._config = self._configuration(names, **SETTINGS)
        self.drained = 0.0

    def _start(self):
        self._places.start()
        self._outbox = self._places.place("outbox")
        for place in [self._outbox, *map(self._places.place, INBOXES)]:
            actors.make_tables(place)
        self._cast = {name: self._actor(name) for name in PUBLISHERS + DELIVERERS + RECIPIENTS}
        super()._start()

    def __exit__(self, *_):
        try:
            super().__exit__()
        finally:
            self._places.end()

    def play(self):
        """Let the faults happen; mend all; wait until everything is delivered; return the history."""
        self._let_happen(self._plan())
        if self._errors:
            raise self._errors[0]
        with ThreadPoolExecutor(len(PUBLISHERS)) as pool:
            if not all(pool.map(lambda name: self._cast[name].finish(_FINISH), PUBLISHERS)):
                raise RuntimeError("a publisher does not end")
        self._write_faults()
        with contextlib.closing(gilmsg.outbox.Outbox(self._outbox)) as box:
            mended = time.monotonic()
            with contextlib.suppress(TimeoutError):  # what is left is for the checker
                wait_for(lambda: not box.counts()["waiting"], "everything is delivered", _DRAINED)
            self.drained = time.monotonic() - mended
            for actor in self._cast.values():
                actor.end()
            history, left = self._history(box), list(box.list("waiting", "failed"))
        with open(os.path.join(self.folder, "history.log"), "w") as stream:
            stream.writelines(f"{one!r}\n" for part in (*history[:-1], left) for one in part)
        return history

    def faults(self):
        """How many there were of each kind."""
        kinds = [fault.kind for fault in self._faults]
        return {f"faults: {kind}": kinds.count(kind) for kind in kinds}

    def _plan(self):
        peers = DELIVERERS + PUBLISHERS[1:] if self.partitions else ()
        others = RECIPIENTS if self.partitions else ()
        sides = (
            (RECIPIENTS, RECIPIENT, peers), (DELIVERERS, _DELIVERER, others), (PUBLISHERS[1:], PUBLISHER, others),
            # Nothing of these is on the bus.
            (PUBLISHERS[:1], PUBLISHER, ()), (["database"], self._places.faults, ()),
        )  # fmt: skip
        return sorted(fault for side in sides for fault in of_side(self.seed, self.seconds, *side))

    def _ways(self):
        return {**super()._ways(), **dict.fromkeys(self._places.faults, self._places.harm)}

    def _history(self, box):
        done = {name: self._column(self._places.place(name), actors.DONE.c.msg_id) for name in INBOXES}
        return History(
            put=[one for name in PUBLISHERS for one in self._put(name)],
            stored=list(_stored(box)),
            handed=[Handed(name, **entry) for name in RECIPIENTS for entry in self._cast[name].entries()],
            done=[Done(name, msg_id) for name, ids in done.items() for msg_id in ids],
            work=self._column(self._outbox, actors.WORK.c.key),
            inboxes=INBOXES,
            sweeps=True,
        )

    def _put(self, name):
        """Join the two entries of each message."""
        found = {}
        for entry in self._cast[name].entries():
            found.setdefault(entry["key"], {"outcome": OPEN}).update(entry)
        return [Put(**dict(entry, recipients=tuple(entry["recipients"]))) for entry in found.values()]

    def _column(self, place, column):
        with databases.engine(place) as engine, engine.connect() as connection:
            return list(connection.scalars(select(column)))

    def _actor(self, name):
        config = dict(self._config, name=name)
        task = {"config": config, "seed": f"{self.seed}/{name}", "place": self._outbox}
        if name == HUB:
            config["tests.inbox"] = self._places.place(name)
            return cast.HubActor(self.folder, name, task, self._host(name), "tests.faults.outbox.actors_hub")
        if name in PUBLISHERS:
            task.update(part="publisher", recipients=RECIPIENTS, threads=1, delivers=name != PUBLISHERS[0])
        elif name in DELIVERERS:
            task.update(part="deliverer")
        else:
            inbox = self._places.place(name) if name in INBOXES else None
            task.update(part="recipient", inbox=inbox, forgetful=name in self._forgetful)
        return cast.Actor(self.folder, name, task, self._host(name), "tests.faults.outbox.actors")


def _stored(box):
    """Yield what is in the outbox."""
    messages, acks = box.tables.messages.c, box.tables.acks.c
    with box.transaction(reads=True) as connection:
        signers = {}
        for msg_id, signer in connection.execute(select(acks.msg_id, acks.signer)):
            signers.setdefault(msg_id, []).append(signer)
        for msg_id, body, state, lease in connection.execute(
            select(messages.msg_id, messages.body, messages.state, messages.lease)
        ):
            key, digest = json.loads(body)["msg"]["key"], hashlib.sha256(body.encode()).hexdigest()
            yield Stored(key, msg_id, digest, state, lease is not None, tuple(signers.get(msg_id, ())))
