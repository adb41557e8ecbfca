"""``gilmsg-demo``: the whole promise on an embedded bus, in some seconds."""

import argparse
import logging
import sys
from typing import Dict, List, Optional

import gilmsg
from gilmsg.sandbox import Sandbox

from . import _common
from ._common import NOT_PROVEN, SUCCESS
from ._streams import complain, tell
from ._usage import Parser

PROG = "gilmsg-demo"

DESCRIPTION = """
Publish a signed message on an embedded bus, show each ACK, then kill a recipient and show
the Timeout. Nothing is left behind. Exit status: 0 if all went as promised, 1 if not, 2 for
bad usage, or if the bus did not come up.

Example::

    $ gilmsg-demo
"""

RECIPIENTS = ["backend01", "backend02", "backend03"]
ACK_TIMEOUT = 1.0


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the demo; return the exit status."""
    return _common.run(PROG, lambda: _run(arguments))


def _run(arguments: Optional[List[str]]) -> int:
    Parser(
        prog=PROG, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    tell("Making a throw-away CA, a CRL and certificates; starting %d recipients ..." % len(RECIPIENTS))
    with Sandbox(RECIPIENTS) as bus:
        try:
            return SUCCESS if _shows_success(bus) and _shows_timeout(bus) else NOT_PROVEN
        finally:
            gilmsg.destroy()


def _shows_success(bus: Sandbox) -> bool:
    tell("\n1. Publish to %s: publish() returns when all have proven receipt." % ", ".join(RECIPIENTS))
    receipt = gilmsg.publish(
        topic="greeting",
        modname="demo",
        msg={"text": "hello"},
        recipients=RECIPIENTS,
        ack_timeout=ACK_TIMEOUT,
        **bus.config,
    )
    assert receipt is not None  # there are recipients
    tell("   %s %s" % (receipt.topic, receipt.msg_id))
    _print_acks(receipt.acks)
    return sorted(receipt.acks) == sorted(RECIPIENTS)


def _shows_timeout(bus: Sandbox) -> bool:
    victim = RECIPIENTS[-1]
    tell("\n2. Kill %s and publish again: publish() raises, and says why." % victim)
    bus.dead(victim)
    try:
        gilmsg.publish(
            topic="greeting",
            modname="demo",
            msg={"text": "hello?"},
            recipients=RECIPIENTS,
            ack_timeout=ACK_TIMEOUT,
            **bus.config,
        )
    except gilmsg.Timeout as timeout:
        _print_acks(timeout.acks)
        for recipient, reason in timeout.missing.items():
            tell("   %-10s MISSING: %s" % (recipient, reason))
        tell("\n   gilmsg.Timeout: %s" % timeout)
        return list(timeout.missing) == [victim]
    complain(PROG, "a dead recipient was reported as reached: this must never happen")
    return False


def _print_acks(acks: Dict[str, float]) -> None:
    for recipient, seconds in sorted(acks.items(), key=lambda item: item[1]):
        tell("   %-10s ACK after %.1f ms" % (recipient, seconds * 1000))


if __name__ == "__main__":
    sys.exit(main())
