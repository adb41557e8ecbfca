"""The ACK listener's socket, and nobody who reads it for a while: see test_stopped."""

import os
import time

import pytest
import zmq

from .. import inside
from .children import config, main, say


def listener():
    with pytest.MonkeyPatch.context() as patch:
        inside.quicken_heartbeats(patch, 100, 200)  # or it would take 7 s
        socket = inside.ear(zmq.Context(), "acks", [config["endpoint"]]).socket
        read = [socket.recv_multipart()[1]]
        time.sleep(0.8)  # longer than heartbeats last: the listener that stands still is the fault
        while len(read) < 5000 and socket.poll(5000):
            read.append(socket.recv_multipart()[1])
        say([int(one) for one in read] == list(range(5000)))
        os._exit(0)


if __name__ == "__main__":
    main(globals())
