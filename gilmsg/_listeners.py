"""The process's ACK listeners: one per bus, started by the first message, shared by all threads."""

import atexit
import os
import threading
from typing import Any, Collection, Dict, List, Mapping, Optional

from . import _descriptors, _reentry
from ._directory import Bus
from ._listener import Listener
from .errors import ConfigurationError, ListenerError

_registry_lock = threading.RLock()
_listeners: Dict[Bus, Listener] = {}


def running(bus: Bus) -> Optional[Listener]:
    """Return the process's listener of *bus*, None if none runs; start none."""
    with _registry_lock:
        listener = _listeners.get(bus)
    return listener if listener is not None and listener.alive else None


def listener_for(bus: Bus, config: Mapping[str, Any]) -> Listener:
    """Return the running listener of *bus*; start it, with the socket settings of *config*, if there is none.

    Raises:
        ListenerError: it could not start.
        ConfigurationError: the calling thread is a listener's own; it was interrupted, by a signal
            handler that publishes, while it started one; too many endpoints for this process's
            limit of open files.
    """
    _refuse_on_own_thread()
    _reentry.refuse(_registry_lock)
    with _registry_lock:
        listener = _listeners.get(bus)
        if listener is None or not listener.alive:
            atexit.unregister(stop_all)
            atexit.register(stop_all)
            # Known before it starts: whatever interrupts us, there is no thread that nobody knows.
            listener = _listeners[bus] = new(bus, config)
        listener.launch()
    listener.wait_ready()
    return listener


def new(bus: Bus, config: Mapping[str, Any]) -> Listener:
    """Return a listener of *bus* that is not started, and that the process does not know of.

    Raises:
        ConfigurationError: too many endpoints for this process's limit of open files.
    """
    # One to hear each endpoint by; another for the consumer there, which connects to us.
    _descriptors.require(sum(map(len, bus.endpoints.values())), 1, 2)
    try:
        return Listener(bus, config)
    except OSError as error:  # its wake-up needs descriptors
        raise ListenerError("the ACK listener did not start: %s; nothing was sent" % error) from error


def _refuse_on_own_thread() -> None:
    """Refuse to wait on a listener's own thread for what only that thread can bring about."""
    if any(listener.runs_here for listener in list(_listeners.values())):
        raise ConfigurationError(
            "publish() with recipients was called on the ACK listener's own thread, by a logging "
            "handler, a __del__ or a weakref callback; do it on a thread of its own"
        )


def started() -> List[Listener]:
    """Return the listeners of the process."""
    with _registry_lock:
        return list(_listeners.values())


def stop_all(keep: Collection[Listener] = ()) -> None:
    """Stop every listener of the process but *keep*; their waiters get a ListenerError at once.

    Forgotten only when stopped: interrupted in between, the next call stops the rest.
    """
    for listener in started():
        if listener not in keep:
            listener.stop()
            with _registry_lock:
                if _listeners.get(listener.bus) is listener:
                    del _listeners[listener.bus]


def _after_fork() -> None:
    """A thread does not survive a fork: the child starts its own listener when it needs one."""
    global _registry_lock, _listeners
    _registry_lock, _listeners = threading.RLock(), {}


os.register_at_fork(after_in_child=_after_fork)
