"""Put aside what the process has of fedmsg's state, and bring exactly that back.

For tests (:mod:`gilmsg.testing`): code that is configured in some way, or not at all, publishes
on another bus for a while. Relied on, of fedmsg:

- ``fedmsg.__local`` is a thread-local, found by its name in fedmsg's module at each call. A new
  one in its place is empty in every thread at once, and the old one keeps every thread's context.
  Contexts are put into its attribute ``__context``.
- ``fedmsg.config.conf`` is imported by name, hence changed in place; ``_loaded`` tells that it is.
"""

import copy
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator, List, Mapping

import fedmsg  # type: ignore[import-untyped]
import fedmsg.config  # type: ignore[import-untyped]

from . import _bus, _config_files, _listeners, _outlets


@contextmanager
def isolated(config: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
    """Run as a process that has initialized nothing and is configured by *config*.

    Gives a function that makes it initialize nothing once more.

    At the end the publishers and listeners opened meanwhile are closed, in whatever thread
    they were opened; those that were open before stay.
    """
    local, kept = _bus._local, _config_files.kept()
    conf, loaded = dict(fedmsg.config.conf), fedmsg.config.conf._loaded
    outlets, listeners = _outlets.opened(), _listeners.started()
    made: List[Any] = []

    def start_anew() -> None:
        _use_local(_recording(made))
        _config_files.replace(config)

    try:
        start_anew()
        fedmsg.config.conf.load_config(settings=copy.deepcopy(dict(config)))
        yield start_anew
    finally:
        _use_local(local)
        _config_files.keep(kept)
        fedmsg.config.conf.clear()
        fedmsg.config.conf.update(conf)
        fedmsg.config.conf._loaded = loaded
        # Last, and each step whatever becomes of the others: the session is what it was by now.
        with ExitStack() as closing:
            closing.callback(_outlets.close_all, keep=outlets)
            closing.callback(_listeners.stop_all, keep=listeners)
            for context in reversed(made):
                closing.callback(_close, context)


def _recording(made: List[Any]) -> threading.local:
    """Return a thread-local that notes in *made* each context which any thread puts into it."""

    class Local(threading.local):
        def __setattr__(self, name: str, value: Any) -> None:
            if value is not None:
                made.append(value)
            super().__setattr__(name, value)

    return Local()


def _close(context: Any) -> None:
    """Close a context of any thread, as far as nobody is hurt.

    Some thread may still read from a socket of it, and ``destroy()`` would wait for that. Then the
    garbage collector closes it.
    """
    publisher = getattr(context, "publisher", None)  # fedmsg gives a muted context none at all
    zmq_context = context.context
    if publisher is not None:
        publisher.close()
    sockets = list(getattr(zmq_context, "_sockets", ()))
    if zmq_context is not None and all(one.closed for one in sockets):
        context.destroy()


def _use_local(local: threading.local) -> None:
    """Make *local* the thread-local of fedmsg and of gilmsg: it is one and the same."""
    for module in (fedmsg, sys.modules[__package__]):
        setattr(module, "__local", local)
    _bus._local = local
