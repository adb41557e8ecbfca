"""Publish a signed message on an embedded bus, show each ACK, then kill a recipient and show
the Timeout. Nothing is left behind. Exit status: 0 if all went as promised, 1 if not, 2 for
bad usage, or if the bus did not come up.

Example::

    $ gilmsg-demo
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from typing import Any

import gilmsg
from gilmsg.sandbox import Sandbox

from . import NOT_PROVEN, SUCCESS, Parser, Signals, complain, script, tell

PROG = "gilmsg-demo"

RECIPIENTS = ["backend01", "backend02", "backend03"]


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    Parser(prog=PROG, description=__doc__, formatter_class=raw).parse_args(arguments)
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    tell(f"Making a throw-away CA, a CRL and certificates; starting {len(RECIPIENTS)} recipients ...")
    signals = Signals(signal.SIGINT)  # Ctrl-C must not interrupt the start of a process
    with Sandbox(RECIPIENTS, on_wait=signals.check) as bus, signals.raised():
        try:
            return SUCCESS if _shows_success(bus) and _shows_timeout(bus) else NOT_PROVEN
        finally:
            gilmsg.destroy()


def _shows_success(bus: Sandbox) -> bool:
    tell(f"\n1. Publish to {', '.join(RECIPIENTS)}: publish() returns when all have proven receipt.")
    receipt = _publish(bus, "hello", ack_timeout=10.0, head_start=20.0)
    tell(f"   {receipt.topic} {receipt.msg_id}")
    _print_acks(receipt)
    return sorted(receipt.acks) == sorted(RECIPIENTS)


def _shows_timeout(bus: Sandbox) -> bool:
    victim = RECIPIENTS[-1]
    tell(f"\n2. Kill {victim} and publish again: publish() raises, and says why.")
    bus.dead(victim)
    try:
        _publish(bus, "hello?", ack_timeout=3.0, head_start=2.0)
    except gilmsg.Timeout as timeout:
        _print_acks(timeout)
        for recipient, reason in timeout.missing.items():
            tell(f"   {recipient:10} MISSING: {reason}")
        tell(f"\n   gilmsg.Timeout: {timeout}")
        return list(timeout.missing) == [victim]
    complain(PROG, "a dead recipient was reported as reached: this must never happen")
    return False


def _publish(bus: Sandbox, text: str, ack_timeout: float, head_start: float) -> Any:
    options = {"recipients": RECIPIENTS, "ack_timeout": ack_timeout, "gilmsg.head_start": head_start, **bus.config}
    return gilmsg.publish(topic="greeting", modname="demo", msg={"text": text}, **options)


def _print_acks(end: gilmsg.Receipt | gilmsg.Timeout) -> None:
    for recipient, seconds in sorted(end.acks.items(), key=lambda item: item[1]):
        tell(f"   {recipient:10} ACK after {seconds * 1000:.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
