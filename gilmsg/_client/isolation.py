"""A process that has initialized nothing, for a while: for tests (:mod:`gilmsg.testing`).

Code that is configured in some way, or not at all, publishes on another bus meanwhile. Relied on, of fedmsg:

- ``fedmsg.__local`` is a thread-local, found by its name in fedmsg's module at each call. A new
  one in its place is empty in every thread at once, and the old one keeps every thread's context.
  Contexts are put into its attribute ``__context``.
- ``fedmsg.config.conf`` is imported by name, hence changed in place; ``_loaded`` tells that it is.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Callable

import fedmsg
import fedmsg.config

from .. import _engine, _settings


@contextmanager
def isolated(config: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
    """Run as a process that has initialized nothing and is configured by *config*.

    Gives a function that makes it initialize nothing once more.

    At the end the publishers and listeners opened meanwhile are closed, in whatever thread
    they were opened; those that were open before stay.
    """
    made: list[Any] = []

    def start_anew() -> None:
        _use_local(_recording(made))
        _settings.replace(config)

    with ExitStack() as end:  # the last first, and each whatever becomes of the others
        end.enter_context(_engine.replaced())
        end.callback(_close_all, made)
        end.callback(_restored(fedmsg.config.conf))
        end.callback(_settings.keep, _settings.kept())
        end.callback(_use_local, fedmsg.__local)
        start_anew()
        fedmsg.config.conf.load_config(settings=copy.deepcopy(dict(config)))
        yield start_anew


def _use_local(local: threading.local) -> None:
    """Make *local* the thread-local of fedmsg and of gilmsg: it is one and the same."""
    for module in (fedmsg, sys.modules["gilmsg"]):
        setattr(module, "__local", local)


def _restored(conf: Any) -> Callable[[], None]:
    """Return what makes *conf*, fedmsg's, what it is now."""
    before, loaded = dict(conf), conf._loaded

    def restore() -> None:
        conf.clear()
        conf.update(before)
        conf._loaded = loaded

    return restore


def _recording(made: list[Any]) -> threading.local:
    """Return a thread-local that notes in *made* each context which any thread puts into it."""

    class Local(threading.local):
        def __setattr__(self, name: str, value: Any) -> None:
            if value is not None:
                made.append(value)
            super().__setattr__(name, value)

    return Local()


def _close_all(made: list[Any]) -> None:
    with ExitStack() as closing:
        for context in made:
            closing.callback(_close, context)


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
