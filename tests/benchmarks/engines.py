"""An engine thread for the floor, see hops.py; ``python -m tests.benchmarks.engines`` is a recipient that has one."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
from typing import Any, Callable

import zmq

from tests.benchmarks import floor


class Engine:
    """A thread that calls what others put, and *heard* when there is a message at *ear*."""

    def __init__(self, ear: Any = None, heard: Callable[[], None] | None = None) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._inside, self._outside = socket.socketpair()
        self._ear, self._heard = ear, heard
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, job: Callable[[], None]) -> None:
        """Have the thread call *job* soon."""
        self._jobs.put(job)
        self._outside.send(b".")

    def wait_for(self, job: Callable[[threading.Lock], None]) -> None:
        """Have the thread call *job* with a lock; return when somebody has released that."""
        ended = threading.Lock()
        ended.acquire()
        self.put(lambda: job(ended))
        if not ended.acquire(timeout=floor.LIMIT):
            raise TimeoutError("the floor is not answered")

    def _run(self) -> None:
        polled = [(self._inside.fileno(), zmq.POLLIN)]
        if self._ear is not None:
            polled.append((self._ear, zmq.POLLIN))
        with contextlib.suppress(zmq.ZMQError):  # its sockets were closed: the end
            while True:
                for ready, _ in zmq.zmq_poll(polled, -1):
                    if ready is self._ear and self._heard is not None:
                        self._heard()
                    else:
                        self._do()

    def _do(self) -> None:
        self._inside.recv(4096)  # first: a byte that comes later is of a job that comes later
        while not self._jobs.empty():
            self._jobs.get()()


class Answerer(floor.Answerer):
    """A recipient whose ACKs leave through an engine thread; it goes on when they have left."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._engine = Engine()

    def send(self, wire: bytes) -> None:
        def leave(ended: threading.Lock) -> None:
            super(Answerer, self).send(wire)
            ended.release()

        self._engine.wait_for(leave)


if __name__ == "__main__":
    floor.play(json.loads(sys.stdin.readline()), Answerer)
