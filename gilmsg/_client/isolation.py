"""A process that has initialized nothing, for a while: for tests (:mod:`gilmsg.testing`).

Relied on, of fedmsg: ``fedmsg.__local`` is a thread-local, found by its name in fedmsg's module at each call, whose
attribute ``__context`` holds the thread's context; a new one in its place is empty in every thread at once.
``fedmsg.config.conf`` is imported by name, hence changed in place; ``_loaded`` tells that it is loaded.
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
    """Run as a process that is configured by *config* and has initialized nothing; give what makes it so once more.

    At the end the publishers and listeners opened meanwhile are closed, in whatever thread they were opened.
    """
    conf = fedmsg.config.conf
    before, loaded, kept, local = dict(conf), conf._loaded, _settings.kept(), fedmsg.__local

    def start_anew() -> None:
        _use_local(_closing(contexts))
        _settings.replace(config)

    with _engine.replaced(), ExitStack() as contexts:  # closes each, though another fails to
        try:
            start_anew()
            conf.load_config(settings=copy.deepcopy(dict(config)))
            yield start_anew
        finally:
            _use_local(local)
            _settings.keep(kept)
            conf.clear()
            conf.update(before)
            conf._loaded = loaded


def _use_local(local: threading.local) -> None:
    """Make *local* the thread-local of fedmsg and of gilmsg: it is one and the same."""
    for module in (fedmsg, sys.modules["gilmsg"]):
        setattr(module, "__local", local)


def _closing(contexts: ExitStack) -> threading.local:
    """Return a thread-local that has *contexts* close each context which any thread puts into it."""

    class Local(threading.local):
        def __setattr__(self, name: str, value: Any) -> None:
            if value is not None:
                contexts.callback(_close, value)
            super().__setattr__(name, value)

    return Local()


def _close(context: Any) -> None:
    """Close a context of any thread, unless a thread may read from a socket of it: ``destroy()`` would wait for that."""
    publisher = getattr(context, "publisher", None)
    if publisher is not None:
        publisher.close()  # it may be fedmsg's own, a socket of this context
    sockets = list(getattr(context.context, "_sockets", ()))
    if context.context is not None and all(one.closed for one in sockets):
        context.destroy()
