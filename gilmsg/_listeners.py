"""The process's ACK listeners: one per bus, started by the first message, shared by all threads."""

from typing import Any, Collection, List, Mapping, Optional

from . import _descriptors, _reentry
from ._directory import Bus
from ._listener import Listener
from ._registry import Registry
from .errors import ConfigurationError, ListenerError

_listeners: Registry[Bus, Listener] = Registry(lambda listener: listener.stop())


def running(bus: Bus) -> Optional[Listener]:
    """Return the process's listener of *bus*, None if none runs; start none."""
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
    _reentry.refuse(_listeners.lock)
    with _listeners.lock:
        listener = running(bus)
        if listener is None:
            listener = _listeners.new(bus, lambda: new(bus, config))
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
    if any(listener.runs_here for listener in _listeners.all()):
        raise ConfigurationError(
            "publish() with recipients was called on the ACK listener's own thread, by a logging "
            "handler, a __del__ or a weakref callback; do it on a thread of its own"
        )


def started() -> List[Listener]:
    """Return the listeners of the process."""
    return _listeners.all()


def stop_all(keep: Collection[Listener] = ()) -> None:
    """Stop every listener of the process but *keep*; their waiters get a ListenerError at once."""
    _listeners.end_all(keep)
