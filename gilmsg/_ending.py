"""``destroy()``. It loads nothing, for what is not loaded has opened nothing: a signal handler may call it any time."""

import sys
from typing import Any

import fedmsg  # type: ignore[import-untyped]


def destroy(**_: Any) -> None:
    """Close the calling thread's context, and the process's gilmsg publishers and listeners.

    Threads that wait for ACKs get a :class:`~gilmsg.ListenerError` at once. The next
    publish, from any thread, starts anew.

    Raises:
        ConfigurationError: a ``__del__`` or weakref callback called it while it interrupted gilmsg itself.
    """
    _call("_reentry", "refuse_here")
    _call("_listeners", "stop_all")  # first: to close a socket may take a moment
    local = getattr(fedmsg, "__local")
    context = getattr(local, "__context", None)
    try:
        if context is not None:
            context.destroy()
    finally:
        if hasattr(local, "__context"):
            # fedmsg leaves None there, and its next publish() dies of it.
            delattr(local, "__context")
        _call("_outlets", "close_all")
        _call("_listeners", "stop_all")  # those that other threads have started meanwhile


def _call(module: str, function: str) -> None:
    """Call a function of ours if it is loaded; not yet in a module whose import this call has interrupted."""
    found = getattr(sys.modules.get("%s.%s" % (__package__, module)), function, None)
    if found is not None:
        found()
