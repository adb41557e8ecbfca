"""Whose something is: what a forked child inherits of its parent's threads and sockets it must not use."""

import os

from .errors import ListenerError


class Owner:
    """The process in which something was made."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether that is this process, and not the one that it was forked from."""
        return self.pid == os.getpid()

    def require(self) -> None:
        """Raise ListenerError in a forked child, for what cannot be sent there."""
        if not self.is_here:
            raise ListenerError("process %d forked during this call; nothing was sent in the child" % self.pid)

    def unknown_here(self) -> ListenerError:
        """Return what a forked child is told that asks for the end of a message of its parent's."""
        return ListenerError(
            "the message was published by process %d before it forked; only there its "
            "outcome becomes known" % self.pid
        )
