"""A warm publisher: how late is a Timeout, and what of a recipient that restarts? ``python -m tests.benchmarks.warm``."""

import argparse
import sys
import time

import gilmsg
from gilmsg.sandbox import Sandbox

from ..helpers import until_gone, until_present
from .coldstart import DEFAULT_ACK_TIMEOUT

#: The publisher of both is older than this, or waits for nobody.
OLD = {"gilmsg.head_start": 0}

ACK_TIMEOUT = 0.05


def overruns(bus, count):
    """Publish *count* messages to alice, who was killed; return by how many seconds each was late."""
    gilmsg.init(**dict(bus.config, **OLD))
    until_present("alice")
    bus.dead("alice")
    found = []
    for _ in range(count):
        left = []
        try:
            gilmsg.publish(
                topic="t", msg={}, recipients=["alice"], ack_timeout=ACK_TIMEOUT,
                pre_fire_hook=lambda message, left=left: left.append(time.monotonic()),
            )
        except gilmsg.Timeout:
            found.append(time.monotonic() - left[0] - ACK_TIMEOUT)
    return found


def restarts(bus, count, ack_timeout=DEFAULT_ACK_TIMEOUT):
    """Kill and restart alice *count* times under a publisher that never stops; tell of each restart.

    (Seconds until her presence was seen, publishes that failed after it, publishes that raised while she was away.)
    """
    gilmsg.init(**dict(bus.config, **OLD, **{"gilmsg.ack_timeout": ack_timeout}))
    until_present("alice")
    return [_restart(bus) for _ in range(count)]


def _restart(bus):
    bus.dead("alice")
    until_gone("alice")
    away = sum(not _arrives(0.05) for _ in range(5))
    bus.well("alice")
    began = time.monotonic()
    until_present("alice")
    seconds = time.monotonic() - began
    return seconds, sum(not _arrives() for _ in range(20)), away


def _arrives(ack_timeout=None):
    try:
        return bool(gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=ack_timeout))
    except gilmsg.Timeout as timeout:
        print(timeout, file=sys.stderr)
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("overrun", "restarts"))
    parser.add_argument("--count", type=int, help="500 messages, or 20 restarts, by default")
    parser.add_argument("--ack-timeout", type=float, default=DEFAULT_ACK_TIMEOUT, help="seconds, of restarts")
    options = parser.parse_args()
    with Sandbox(["alice"]) as bus:
        try:
            return _overrun(bus, options) if options.what == "overrun" else _restarts(bus, options)
        finally:
            gilmsg.destroy()


def _overrun(bus, options):
    late = sorted(overruns(bus, options.count or 500))
    share = {name: late[int(part * (len(late) - 1))] for name, part in (("median", 0.5), ("p99", 0.99))}
    milliseconds = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in {**share, "max": late[-1]}.items())
    print(f"{len(late)} Timeouts after ack_timeout={ACK_TIMEOUT:g} s, late by: {milliseconds}")
    return 0 if share["p99"] < 0.02 else 1


def _restarts(bus, options):
    found = restarts(bus, options.count or 20, options.ack_timeout)
    failed = sum(failures for _, failures, _ in found)
    slowest, raised = max(seconds for seconds, _, _ in found), sum(away for _, _, away in found)
    print(f"{len(found)} restarts; present again after at most {slowest:.2f} s; of {20 * len(found)} publishes after "
          f"that {failed} failed; of {5 * len(found)} while she was away {raised} raised")
    return 0 if not failed else 1


if __name__ == "__main__":
    sys.exit(main())
