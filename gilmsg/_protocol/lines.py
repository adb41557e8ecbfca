"""The order in which messages leave a publishing socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Leaving(Protocol):
    """What waits to leave at a socket: until when at most, and whether its caller has gone."""

    until: float
    abandoned: bool

    def ready(self) -> bool: ...


L = TypeVar("L", bound=Leaving)


class Lines(Generic[L]):
    """What waits to leave at one publishing socket, in each thread's order; for one thread."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[L]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def submit(self, thread: Hashable | None, item: L) -> None:
        """Put *item* behind what *thread* still holds here; None has a line of its own for each item."""
        self._lines.setdefault(object() if thread is None else thread, deque()).append(item)

    def ripe(self, now: float) -> Iterator[L]:
        """Remove and yield, in order, what is ready, due or abandoned, and has nothing before it that is not."""
        for key, line in list(self._lines.items()):
            while line and (line[0].until <= now or line[0].abandoned or line[0].ready()):
                yield line.popleft()
            if not line:
                del self._lines[key]

    def next_due(self) -> float | None:
        return min([line[0].until for line in self._lines.values()]) if self._lines else None

    def clear(self) -> list[L]:
        """Remove and return everything."""
        lines, self._lines = self._lines, {}
        return [item for line in lines.values() for item in line]
