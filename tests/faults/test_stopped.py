"""A publisher that stands still for longer than any wait of its own, and than heartbeats last."""

import signal
import threading
import time

import pytest
import zmq

from ..processes import wait_for
from .children import Child, run


@pytest.mark.long
@pytest.mark.slow
def test_a_stopped_publisher_gets_its_timeout(bus, tmp_path):
    """After SIGCONT every waiting publish is a Timeout, not a complaint about the engine."""
    with Child("stopping", "many", {**bus.config, "gilmsg.head_start": 0}, tmp_path) as child:
        wait_for(lambda: child.lines.count("sent") == 30 or not child.alive, "all are sent")
        child.send(signal.SIGSTOP)
        # Longer than ack_timeout and the grace after it: nothing to wait for, it stands still.
        time.sleep(7.5)
        child.send(signal.SIGCONT)
        child.end(30)
        lines = child.lines
    assert sorted(lines) == ["Timeout"] * 30 + ["sent"] * 30


def test_a_flood_over_a_stalled_listener_does_not_abort_the_process(bus, tmp_path):
    """A full queue that nobody reads for longer than heartbeats last costs neither the process nor a frame."""
    endpoint = bus.ports.endpoint()
    with zmq.Context() as context, context.socket(zmq.XPUB) as flooding:
        flooding.setsockopt(zmq.SNDHWM, 0)
        flooding.setsockopt(zmq.LINGER, 0)
        flooding.bind(endpoint)

        def send():
            assert flooding.poll(60000)
            for number in range(5000):
                flooding.send_multipart([b"acks", b"%3000d" % number])

        thread = threading.Thread(target=send)
        thread.start()
        status, lines, errors = run("stalled", "listener", {"endpoint": endpoint}, tmp_path)
        thread.join()
    # It was libzmq's "Assertion failed: _input_stopped" (its issue 3937).
    assert (status, lines) == (0, ["True"]), errors
