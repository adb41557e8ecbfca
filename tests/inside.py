"""All that tests ask of gilmsg's inside; the rest of tests/, but for a room's own folder, uses public names only."""

import threading

from gilmsg import (
    _acknowledge, _bus, _callbacks, _listener, _listeners, _message, _outlets, _pki, _ports, _presence, _publish,
    _sockets, _trust,
)  # fmt: skip
from gilmsg._visibility import Visibility

from .processes import wait_for

#: Threads that stay for the life of the process, asleep, by design.
KEPT_THREADS = {"gilmsg-callbacks", "gilmsg-futures", "gilmsg-talker"}

#: The thread that hears ACKs.
ENGINE_THREAD = "gilmsg-listener"


# What this thread's publisher sees.


def _outlet():
    return _bus.publisher(_bus.current()).outlet()


def present(recipients, topic="org.example.dev.tests.t"):
    """Whether a publish to *recipients* from this thread would not have to wait for anybody."""
    outlet = _outlet()
    directory = _bus.directory(_bus.current())
    listener = _listeners.listener_for(directory.bus, _bus.current().c)
    seen = Visibility(topic, outlet, listener, directory)
    outlet.catch_up()
    with outlet.look() as peers:
        return _presence.ready(recipients, seen._route, peers, seen._back.linked)


def listens(common_name, topic=""):
    """Whether *common_name* is announced at this thread's publisher as a listener to *topic*."""
    with _outlet().look() as peers:
        return peers.listens(common_name, topic)


def topics(common_name):
    """The topics to which *common_name* is announced there."""
    with _outlet().look() as peers:
        return peers.topics(common_name)


def anyone():
    """Whether anybody at all is connected there."""
    with _outlet().look() as peers:
        return peers.anyone()


def asked_for(name, topic):
    """Whether somebody is subscribed to *topic* at the publisher that this process has under *name*."""
    [outlet] = [one for one in _outlets._outlets.values() if one.address.name == name]
    with outlet.look() as peers:
        return peers.asked_for(topic)


def endpoint():
    """The endpoint at which this thread's publisher is bound."""
    return _outlet().endpoint


# The engine of this process.


def outstanding():
    """How many messages wait for ACKs in this process."""
    return sum(len(one._ledger) for one in _listeners._listeners.values())


def running():
    """How many publishers and listeners this process has."""
    return len(_outlets._outlets), len(_listeners._listeners)


def new_origin():
    """Digits that name some listener."""
    return _message.new_origin()


def break_engine(patch, error):
    """Let what hears ACKs fail with *error*: nothing from outside can do that, it promises."""

    def broken(*_):
        raise error

    patch.setattr(_listener.Listener, "_take_frames", broken)


def quicken_heartbeats(patch, interval, timeout):
    """Set heartbeats to so many milliseconds for sockets made from here on: the real ones take 7 s."""
    patch.setattr(_sockets, "HEARTBEAT_IVL", interval)
    patch.setattr(_sockets, "HEARTBEAT_TIMEOUT", timeout)


def hold_acks(patch, seconds):
    """Let consumers wait *seconds* for the very listener that awaits an ACK, no socket counting as young."""
    patch.setattr(_acknowledge, "YOUNG", 0.0)
    patch.setattr(_acknowledge, "HOLD", seconds)
    patch.setattr(_acknowledge, "IN_VAIN_SECONDS", 1000.0)


# What is kept for the life of the process.


def forget_keys():
    """Let keys and trust stores be read anew."""
    _trust._stores.clear()
    _trust._pairs.clear()


def forget_warnings():
    """Let what is warned of once in a process be warned of again."""
    _publish._warned.clear()


def callbacks_done():
    """Wait for what the thread of callbacks has in hand: its log lines are this test's, not the next one's."""
    said = threading.Event()
    if not _callbacks.callbacks.jobs.empty():
        _callbacks.callbacks.run(said.set)
        wait_for(said.is_set, "what was queued is done", 30)


# The sandbox's means.


def authority(folder):
    """A throw-away CA in *folder*."""
    return _pki.Authority(str(folder))


def free_ports():
    """Hands out free ports: see ``Sandbox.ports``."""
    return _ports.Ports()


def stand_in(bus, common_name):
    """The process id of a stand-in."""
    return bus._stand_ins[common_name].pid
