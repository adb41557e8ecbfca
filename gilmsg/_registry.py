"""What the process has open of one kind, shared by all its threads: known before it is, until it is no more."""

import atexit
import os
import threading
from typing import Callable, Collection, Dict, List, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Registry(Dict[K, V]):
    """The things of one kind by key; those that are still known when the interpreter exits are ended then.

    A thing is known before it holds anything (a port, a thread) and forgotten only when that is
    given back: interrupted in between, by a signal, nothing is open that nobody knows of.

    Whoever looks for a thing, and makes one if there is none, holds ``lock`` meanwhile. To read takes no
    lock: ``get``, ``values`` into a list and ``copy`` bear that the dict changes.
    """

    def __init__(self, end: Callable[[V], None]) -> None:
        super().__init__()
        self._end = end
        self.lock = threading.RLock()
        os.register_at_fork(after_in_child=self._begin_anew)

    def new(self, key: K, make: Callable[[], V]) -> V:
        """Return what *make* makes, known under *key* from then on. The caller holds the lock."""
        atexit.unregister(self.end_all)  # so that it stands there once
        atexit.register(self.end_all)
        thing = self[key] = make()  # last: what is known is sure to be ended
        return thing

    def all(self) -> List[V]:
        """Return all that is known."""
        return list(self.values())

    def end(self, key: K, thing: V) -> None:
        """End *thing*, which may take a moment and is done without the lock; then forget it."""
        self._end(thing)
        with self.lock:
            if self.get(key) is thing:
                self.pop(key, None)  # a handler's destroy() may have done it since

    def end_all(self, keep: Collection[V] = ()) -> None:
        """End all but *keep*; interrupted in between, the next call ends the rest."""
        for key, thing in self.copy().items():
            if thing not in keep:
                self.end(key, thing)

    def _begin_anew(self) -> None:
        """A forked child has the parent's memory, but neither its threads nor those of zmq: nothing is open there."""
        self.lock = threading.RLock()  # another thread may have held it at the fork
        self.clear()
