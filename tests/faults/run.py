"""One run: the cast on its hosts, the faults as planned, and the history that comes of it."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .. import inside
from ..processes import Whole, wait_for
from . import cast, hosts
from .history import EVERYBODY, Call, Fault, Noted
from .plan import plan

PUBLISHERS = ["publisher1", "publisher2"]
TAILS = ["alice", "bob"]
HUB = "carol"
RECIPIENTS = TAILS + [HUB]
THREADS = 2

#: Seconds in which the last calls must have ended: reaching everybody may take RECOVERY.
_FINISH = 45.0

#: How each partition is made.
_CUTS = {
    "partition": lambda host, peer: host.isolate(),
    "partition, deaf": lambda host, peer: host.deafen(),
    "partition, mute": lambda host, peer: host.silence(),
    "partition from one peer": lambda host, peer: host.isolate(peer),
    "cable out": lambda host, peer: host.unplug(),
}


class Run(Whole):
    """A context manager; ``play`` returns (calls, noted, faults) for the checker.

    Args:
        seed: decides on faults, recipients, ack_timeouts and pauses; not on how the machine
            schedules, so a run that is repeated is alike and not the same.
        seconds (float): for how long faults happen.
        partitions (bool): put everybody on a host of its own.
        forgetful (bool): let alice lose every second message that she has acknowledged; the checker has to find it.
    """

    def __init__(self, seed, seconds, partitions, forgetful=False):
        self.seed, self.seconds, self.partitions = seed, seconds, partitions
        self.folder = tempfile.mkdtemp(prefix="gilmsg-faults-")
        self.keep = False
        self._forgetful = ["alice"] if forgetful else []
        self._faults = []
        self._errors = []
        self._ports = inside.free_ports()
        names = PUBLISHERS + RECIPIENTS
        self._network = hosts.Network(names) if partitions else None
        config = self._configuration(names)
        self._cast = {name: self._actor(name, config) for name in names}

    def _start(self):
        if self._network:
            self._network.__enter__()
        born = time.monotonic()
        for actor in self._cast.values():
            actor.start()
        for actor in self._cast.values():
            actor.wait()
        # The publishers began before all others were there.
        self._faults += [Fault("start", one, born, time.monotonic()) for one in RECIPIENTS]

    def __exit__(self, *_):
        for actor in self._cast.values():
            actor.end()
        if self._network:
            self._network.remove()
        self._ports.close()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def play(self):
        """Let the faults happen; mend all; end the publishers; return the history."""
        began = time.monotonic()
        stalls = cast.Stalls()
        stalls.start()
        planned = plan(self.seed, self.seconds, RECIPIENTS, PUBLISHERS, self.partitions)
        threads = [
            threading.Thread(target=self._suffer, args=(actor, planned, began), daemon=True)
            for actor in self._cast.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._finish()
        stalls.stop()
        if self._errors:
            raise self._errors[0]
        return self._history(stalls)

    def _suffer(self, actor, planned, began):
        """Inflict on *actor* what is planned for it, one after the other, until the time is over."""
        try:
            for fault in [one for one in planned if one.who == actor.name]:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                self._inflict(actor, fault)
            time.sleep(max(0.0, began + self.seconds - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is told
            self._errors.append(error)

    def _inflict(self, actor, planned):
        before = time.monotonic()
        ways = {
            "kill": self._kill,
            "restart": self._restart,
            "stop": self._stop,
            "stop, then kill": self._stop_and_kill,
            "slow consumer": self._slow,
        }
        dead = ways.get(planned.kind, self._cut)(actor, planned)
        self._faults.append(
            Fault(
                planned.kind, actor.name, before, time.monotonic(),
                dead=dead, still=planned.kind == "stop", peer=planned.peer,
            )
        )

    # Each returns when the process was dead for certain, None if it lived on. They sleep for as long as the fault
    # is to last: nothing is waited for.

    def _kill(self, actor, planned):
        actor.end()
        dead = time.monotonic()
        time.sleep(planned.lasts)
        actor.start()
        actor.wait()
        return dead

    def _restart(self, actor, planned):
        """SIGTERM, as an init system does; where it interrupts a hand-over it is a crash, too."""
        cast.send(actor, signal.SIGTERM)
        time.sleep(planned.lasts)
        return self._kill(actor, planned._replace(lasts=0))

    def _stop(self, actor, planned):
        cast.send(actor, signal.SIGSTOP)
        time.sleep(planned.lasts)
        cast.send(actor, signal.SIGCONT)

    def _stop_and_kill(self, actor, planned):
        cast.send(actor, signal.SIGSTOP)
        time.sleep(planned.lasts)
        return self._kill(actor, planned._replace(lasts=0))

    def _slow(self, actor, planned):
        actor.slow(0.4)
        time.sleep(planned.lasts)
        actor.slow(0)

    def _cut(self, actor, planned):
        peer = self._cast[planned.peer].host if planned.peer else None
        _CUTS[planned.kind](actor.host, peer)
        time.sleep(planned.lasts)
        actor.host.mend()
        actor.host.plug()

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
        stood = [Fault("stall", EVERYBODY, *times, still=True) for times in stalls.found]
        with open(os.path.join(self.folder, "faults.log"), "w") as stream:
            faults = sorted(self._faults + stood, key=lambda fault: fault.began)
            stream.writelines(f"{fault!r}\n" for fault in faults)
        return calls, noted, self._faults + stood

    def _entries(self, name):
        with open(self._cast[name].log) as stream:
            return [json.loads(line) for line in stream]

    def _notes(self, name):
        return [Noted(recipient=name, **entry) for entry in self._entries(name)]

    def _settled(self, name):
        """Whether each thread of its process has handed over what it ACKed last."""
        last = {note.thread: note for note in self._notes(name)}
        mine = f"{self._cast[name].pid}/"
        return all(note.what == "handed" for note in last.values() if note.thread.startswith(mine))

    def _calls(self, name):
        """Join the two entries of each call."""
        found = {}
        for entry in self._entries(name):
            found.setdefault(entry.pop("call"), {"ended": None, "outcome": "open"}).update(entry)
        for entry in found.values():
            lists = {key: tuple(entry.get(key, ())) for key in ("recipients", "acks", "missing")}
            yield Call(publisher=name, **dict(entry, **lists))

    # How it is set up.

    def _actor(self, name, config):
        host = self._network[name] if self._network else None
        task = {"config": dict(config, name=name), "seed": f"{self.seed}/{name}"}
        task["forgetful"] = name in self._forgetful
        if name in PUBLISHERS:
            task.update(recipients=RECIPIENTS, threads=THREADS)
        kind = cast.HubActor if name == HUB else cast.Actor
        return kind(self.folder, name, task, host)

    def _configuration(self, names):
        authority = inside.authority(os.path.join(self.folder, "pki"))
        for name in names:
            authority.issue(name)
        if self._network:
            endpoints = {name: [self._network[name].endpoint(9000)] for name in names}
        else:
            endpoints = {name: [self._ports.endpoint()] for name in names}
        return inside.signed_bus(authority, endpoints, {name: name for name in names}, post_init_sleep=0)
