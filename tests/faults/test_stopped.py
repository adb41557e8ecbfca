"""A publisher that stands still for longer than any wait of its own, and than heartbeats last."""

import json
import signal
import sys
import threading
import time

import pytest
import zmq

from ..processes import Program, python, wait_for

#: Many threads: which of caller and listener wakes first is a race.
CODE = """
import json, os, sys, threading
import gilmsg

config = json.loads(sys.argv[1])

def work():
    try:
        gilmsg.publish(topic="t", msg={}, recipients=["nobody"], ack_timeout=2.0,
                       pre_fire_hook=lambda m: os.write(1, b"sent\\n"), **config)
    except Exception as error:
        os.write(1, type(error).__name__.encode() + b"\\n")

threads = [threading.Thread(target=work) for _ in range(30)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_stopped_publisher_gets_its_timeout(bus, tmp_path):
    """After SIGCONT every waiting publish is a Timeout, not a complaint about the listener."""
    config = dict(bus.config, **{"gilmsg.head_start": 0})
    with Program([sys.executable, "-c", CODE, json.dumps(config)], tmp_path) as child:
        wait_for(lambda: child.lines.count("sent") == 30 or not child.alive, "all are sent")
        child.send(signal.SIGSTOP)
        # Longer than ack_timeout and the grace after it: nothing to wait for, it stands still.
        time.sleep(7.5)
        child.send(signal.SIGCONT)
        child.end(30)
        lines = child.lines
    assert sorted(lines) == ["Timeout"] * 30 + ["sent"] * 30


#: The ACK listener's socket, and nobody who reads it for a while.
STALLED = """
import os, sys, time, zmq
from gilmsg import _ack_socket, _links, _sockets
from gilmsg._directory import Bus

_sockets.HEARTBEAT_IVL, _sockets.HEARTBEAT_TIMEOUT = 100, 200  # or it would take 7 s
bus = Bus("acks", {"flooding": [sys.argv[1]]})
acks = _ack_socket.AckSocket(zmq.Context(), bus, "origin", {}, _links.Links())
read = [acks.socket.recv_multipart()[1]]
time.sleep(0.8)  # longer than heartbeats last: the listener that stands still is the fault
while len(read) < 5000 and acks.socket.poll(5000):
    read.append(acks.socket.recv_multipart()[1])
print([int(one) for one in read] == list(range(5000)), flush=True)
os._exit(0)
"""


def test_a_flood_over_a_stalled_listener_does_not_abort_the_process(bus, tmp_path):
    """A full queue that nobody reads for longer than heartbeats last costs neither the process nor a frame."""
    endpoint = bus.ports.endpoint()
    with zmq.Context() as context, context.socket(zmq.XPUB) as flooding:
        flooding.setsockopt(zmq.SNDHWM, 0)
        flooding.setsockopt(zmq.LINGER, 0)
        flooding.bind(endpoint)

        def send():
            assert flooding.poll(20000)
            for number in range(5000):
                flooding.send_multipart([b"acks", b"%3000d" % number])

        thread = threading.Thread(target=send)
        thread.start()
        done = python(STALLED, tmp_path, endpoint)
        thread.join()
    # It was libzmq's "Assertion failed: _input_stopped" (its issue 3937).
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
