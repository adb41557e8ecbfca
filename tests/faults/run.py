"""One run: the cast on its hosts, the faults as planned, and the history that comes of it."""

import time
from concurrent.futures import ThreadPoolExecutor

from ..processes import wait_for
from . import cast
from .history import Call, Fault, Noted
from .ordeal import Ordeal, stood_still
from .plan import plan

PUBLISHERS = ["publisher1", "publisher2"]
TAILS = ["alice", "bob"]
HUB = "carol"
RECIPIENTS = TAILS + [HUB]
THREADS = 2

#: Seconds in which the last calls must have ended: reaching everybody may take RECOVERY.
_FINISH = 45.0


class Run(Ordeal):
    """A context manager; ``play`` returns (calls, noted, faults) for the checker.

    Args:
        seed, seconds, partitions: see `Ordeal`.
        forgetful (bool): let alice lose every second message that she has acknowledged; the checker has to find it.
    """

    def __init__(self, seed, seconds, partitions, forgetful=False):
        names = PUBLISHERS + RECIPIENTS
        super().__init__(seed, seconds, partitions, names)
        self._forgetful = ["alice"] if forgetful else []
        config = self._configuration(names)
        self._cast = {name: self._actor(name, config) for name in names}

    def _start(self):
        born = time.monotonic()
        super()._start()
        # The publishers began before all others were there.
        self._faults += [Fault("start", one, born, time.monotonic()) for one in RECIPIENTS]

    def play(self):
        """Let the faults happen; mend all; end the publishers; return the history."""
        stalls = cast.Stalls()
        stalls.start()
        self._let_happen(plan(self.seed, self.seconds, RECIPIENTS, PUBLISHERS, self.partitions))
        self._finish()
        stalls.stop()
        if self._errors:
            raise self._errors[0]
        return self._history(stalls)

    def _finish(self):
        """End the publishers' work; one that does not end leaves a call open, for the checker."""
        with ThreadPoolExecutor(len(PUBLISHERS)) as pool:
            list(pool.map(lambda name: self._cast[name].finish(_FINISH), PUBLISHERS))

    # What came of it.

    def _history(self, stalls):
        calls = [call for name in PUBLISHERS for call in self._calls(name)]
        for name in RECIPIENTS:
            # What was ACKed last is being handed over. What never is, is for the checker.
            try:
                wait_for(lambda name=name: self._settled(name), "the last hand-over", 10.0)
            except TimeoutError:
                pass
        noted = [note for name in RECIPIENTS for note in self._notes(name)]
        stood = stood_still(stalls)
        self._write_faults(*stood)
        return calls, noted, self._faults + stood

    def _notes(self, name):
        return [Noted(recipient=name, **entry) for entry in self._cast[name].entries()]

    def _settled(self, name):
        """Whether each thread of its process has handed over what it ACKed last."""
        last = {note.thread: note for note in self._notes(name)}
        mine = f"{self._cast[name].pid}/"
        return all(note.what == "handed" for note in last.values() if note.thread.startswith(mine))

    def _calls(self, name):
        """Join the two entries of each call."""
        found = {}
        for entry in self._cast[name].entries():
            found.setdefault(entry.pop("call"), {"ended": None, "outcome": "open"}).update(entry)
        for entry in found.values():
            lists = {key: tuple(entry.get(key, ())) for key in ("recipients", "acks", "missing")}
            yield Call(publisher=name, **dict(entry, **lists))

    # How it is set up.

    def _actor(self, name, config):
        task = {"config": dict(config, name=name), "seed": f"{self.seed}/{name}"}
        task["forgetful"] = name in self._forgetful
        if name in PUBLISHERS:
            task.update(recipients=RECIPIENTS, threads=THREADS)
        kind = cast.HubActor if name == HUB else cast.Actor
        return kind(self.folder, name, task, self._host(name))
