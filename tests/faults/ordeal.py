"""The ground of a run: its cast on hosts of their own, and the faults that befall them as planned."""

import os
import shutil
import signal
import tempfile
import threading
import time

from .. import inside
from ..processes import Whole
from . import cast, hosts
from .history import EVERYBODY, Fault

#: How each partition is made.
_CUTS = {
    "partition": lambda host, peer: host.isolate(),
    "partition, deaf": lambda host, peer: host.deafen(),
    "partition, mute": lambda host, peer: host.silence(),
    "partition from one peer": lambda host, peer: host.isolate(peer),
    "cable out": lambda host, peer: host.unplug(),
}


class Ordeal(Whole):
    """A context manager: the cast lives in the block, and what its processes have written goes with the block.

    Args:
        seed: decides on faults, recipients, ack_timeouts and pauses; not on how the machine
            schedules, so a run that is repeated is alike and not the same.
        seconds (float): for how long faults happen.
        partitions (bool): put everybody on a host of its own.
        names: of the cast.
    """

    def __init__(self, seed, seconds, partitions, names):
        self.seed, self.seconds, self.partitions = seed, seconds, partitions
        self.folder = tempfile.mkdtemp(prefix="gilmsg-faults-")
        self.keep = False
        self._faults = []
        self._errors = []
        self._ports = inside.free_ports()
        self._network = hosts.Network(names) if partitions else None
        self._cast = {}

    def _start(self):
        if self._network:
            self._network.__enter__()
        for actor in self._cast.values():
            actor.start()
        for actor in self._cast.values():
            actor.wait()

    def __exit__(self, *_):
        for actor in self._cast.values():
            actor.end()
        if self._network:
            self._network.remove()
        self._ports.close()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _let_happen(self, planned):
        """Let all that is *planned* happen, and the time pass."""
        began = time.monotonic()
        names = {*self._cast, *(fault.who for fault in planned)}
        threads = [threading.Thread(target=self._suffer, args=(name, planned, began), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _suffer(self, name, planned, began):
        """Inflict on *name* what is planned for it, one after the other, until the time is over."""
        try:
            for fault in [one for one in planned if one.who == name]:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                self._inflict(fault)
            time.sleep(max(0.0, began + self.seconds - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is told
            self._errors.append(error)

    def _inflict(self, planned):
        before = time.monotonic()
        dead = self._ways().get(planned.kind, self._cut)(self._cast.get(planned.who), planned)
        self._faults.append(
            Fault(
                planned.kind, planned.who, before, time.monotonic(),
                dead=dead, still=planned.kind == "stop", peer=planned.peer,
            )
        )

    def _ways(self):
        """How each kind of fault is done, besides partitions."""
        return {
            "kill": self._kill,
            "restart": self._restart,
            "stop": self._stop,
            "stop, then kill": self._stop_and_kill,
            "slow consumer": self._slow,
        }

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

    def _write_faults(self, *more):
        """Keep what was done, in order of time, beside the logs."""
        with open(os.path.join(self.folder, "faults.log"), "w") as stream:
            faults = sorted([*self._faults, *more], key=lambda fault: fault.began)
            stream.writelines(f"{fault!r}\n" for fault in faults)

    def _host(self, name):
        return self._network[name] if self._network else None

    def _configuration(self, names, **more):
        authority = inside.authority(os.path.join(self.folder, "pki"))
        for name in names:
            authority.issue(name)
        if self._network:
            endpoints = {name: [self._network[name].endpoint(9000)] for name in names}
        else:
            endpoints = {name: [self._ports.endpoint()] for name in names}
        return inside.signed_bus(authority, endpoints, {name: name for name in names}, post_init_sleep=0, **more)


def stood_still(stalls):
    """The stalls of the whole machine, as faults."""
    return [Fault("stall", EVERYBODY, *times, still=True) for times in stalls.found]
