"""Cold start: how often, and how soon, does a fresh process reach its recipients? ``python -m tests.benchmarks.coldstart``.

Each publisher is a process of its own, with fedmsg's shipped settings and the default
ack_timeout, unless it is given. Its consumers have been running, and trying its port in
vain, for so long that they try only once in ``zmq_reconnect_ivl_max``: so each publisher
has a port that was never used before.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

from gilmsg.sandbox import Sandbox

from ..conftest import make_known
from ..helpers import Hub
from ..processes import Program, program_words

#: Seconds; gilmsg's own.
DEFAULT_ACK_TIMEOUT, DEFAULT_HEAD_START = 0.25, 2.0

#: Who gets the message that goes that way.
RECIPIENTS = {"tail": "alice", "hub": "carol", "relay": "alice"}

WAYS = tuple(RECIPIENTS)

#: Seconds. Tries are 0.1, 0.2, 0.4, 0.8 and then 1 s apart (each up to 0.1 s more): after 2 s the
#: consumers are where they would be after minutes.
BACKED_OFF = 3.0


def measure(count, ways=WAYS, ack_timeout=DEFAULT_ACK_TIMEOUT, head_start=DEFAULT_HEAD_START):
    """Return way -> list of (seconds or None, stderr).

    There are a tail (alice), a hub (carol) and a relay, backed off from *count* dead ports a way.
    """
    bus = Sandbox(["alice"], relay=True)
    ports = {way: [bus.ports.endpoint() for _ in range(count)] for way in ("tail", "hub")}
    bus.config.update({"gilmsg.ack_timeout": ack_timeout, "gilmsg.head_start": head_start})
    bus.config["endpoints"]["publisher"] = ports["tail"] + ports["hub"]
    make_known(bus, "carol")
    folder = tempfile.TemporaryDirectory(prefix="gilmsg-")
    with folder, bus, Hub(pathlib.Path(folder.name) / "hub", dict(bus.config, name="carol"), ["First"]):
        # No wait for something to settle: that they try in vain for so long is the situation.
        time.sleep(BACKED_OFF)
        return {way: [_run(bus, way, ports.get(way, [])[number:][:1]) for number in range(count)] for way in ways}


def _run(bus, way, publisher):
    """Start a publisher at the port *publisher*; return (seconds until the proof, or None, what it said)."""
    words = [sys.executable, "-m", "gilmsg.commands.logger", "--recipients", "alice", "--message", "x", "--verbose"]
    if way != "relay":
        endpoints = dict(bus.config["endpoints"], publisher=publisher)
        call = dict(bus.config, endpoints=endpoints, topic="cold", msg={}, recipients=[RECIPIENTS[way]])
        words = program_words("publish", call, flags=["-W", "ignore"])
    began = time.monotonic()
    with Program(words, bus.directory) as program:
        try:
            program.wait_for(RECIPIENTS[way], limit=30)
            seconds = time.monotonic() - began
            confirmed = program.end(30) == 0
        except (AssertionError, TimeoutError):
            confirmed = False
        return (seconds if confirmed else None), program.err()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="publishers for each way")
    parser.add_argument("--to", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--ack-timeout", type=float, default=DEFAULT_ACK_TIMEOUT, help="seconds")
    parser.add_argument("--head-start", type=float, default=DEFAULT_HEAD_START, help="seconds")
    options = parser.parse_args()
    found = measure(options.count, options.to, options.ack_timeout, options.head_start)
    for way, runs in found.items():
        times = [seconds for seconds, _ in runs if seconds is not None]
        told = f"{way:5} {len(times)} of {len(runs)} succeeded"
        if times:
            told += f"; start of process to Receipt: median {statistics.median(times):.2f} s, max {max(times):.2f} s"
        print(told)
        for errors in [errors for seconds, errors in runs if seconds is None]:
            print("      failed: " + errors.strip().rpartition("\n")[2])
    return 0 if all(seconds is not None for runs in found.values() for seconds, _ in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
