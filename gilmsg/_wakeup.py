"""Wakes a thread that sleeps in a poll: a byte through a pair of sockets."""

import socket


class Wakeup:
    """Used by any thread, also in a signal handler; cleared by the one that polls ``fileno()``."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)

    def wake(self) -> None:
        """Wake the thread. A full pipe means that it is to wake anyway; a closed one, that it ended."""
        try:
            self._outside.send(b".")
        except OSError:
            pass

    def clear(self) -> None:
        """Take in what woke us; should any be left, the next poll finds it."""
        try:
            self._inside.recv(4096)
        except BlockingIOError:
            pass  # nobody woke us

    def fileno(self) -> int:
        """Return the descriptor to poll for POLLIN; -1 once it is closed."""
        return self._inside.fileno()

    def wakeup_fd(self) -> int:
        """Return the descriptor that wakes it, for ``signal.set_wakeup_fd``."""
        return self._outside.fileno()

    def close(self) -> None:
        """Close both ends; to wake it then does nothing."""
        self._inside.close()
        self._outside.close()
