"""``gilmsg-demo``: the whole promise on an embedded bus, in some seconds."""

import argparse
import logging
import sys
import warnings
from typing import Dict, List, Optional

import gilmsg
from gilmsg.sandbox import Sandbox

RECIPIENTS = ["backend01", "backend02", "backend03"]
ACK_TIMEOUT = 1.0


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the demo; return the exit status."""
    argparse.ArgumentParser(
        prog="gilmsg-demo",
        description="Publish a signed message on an embedded bus, show each ACK, then kill a "
        "recipient and show the Timeout. Nothing is left behind. Example: gilmsg-demo",
    ).parse_args(arguments)
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return _run()
    except KeyboardInterrupt:
        return 130


def _run() -> int:
    print("Making a throw-away CA, a CRL and certificates; starting %d recipients ..." % len(RECIPIENTS))
    with Sandbox(RECIPIENTS) as bus:
        try:
            return 0 if _shows_success(bus) and _shows_timeout(bus) else 1
        finally:
            gilmsg.destroy()


def _shows_success(bus: Sandbox) -> bool:
    print("\n1. Publish to %s: publish() returns when all have proven receipt." % ", ".join(RECIPIENTS))
    receipt = gilmsg.publish(
        topic="greeting",
        modname="demo",
        msg={"text": "hello"},
        recipients=RECIPIENTS,
        ack_timeout=ACK_TIMEOUT,
        **bus.config,
    )
    assert receipt is not None  # there are recipients
    print("   %s %s" % (receipt.topic, receipt.msg_id))
    _print_acks(receipt.acks)
    return sorted(receipt.acks) == sorted(RECIPIENTS)


def _shows_timeout(bus: Sandbox) -> bool:
    victim = RECIPIENTS[-1]
    print("\n2. Kill %s and publish again: publish() raises, and says why." % victim)
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
            print("   %-10s MISSING: %s" % (recipient, reason))
        print("\n   gilmsg.Timeout: %s" % timeout)
        return list(timeout.missing) == [victim]
    print("   a dead recipient was reported as reached: this must never happen", file=sys.stderr)
    return False


def _print_acks(acks: Dict[str, float]) -> None:
    for recipient, seconds in sorted(acks.items(), key=lambda item: item[1]):
        print("   %-10s ACK after %.1f ms" % (recipient, seconds * 1000))


if __name__ == "__main__":
    sys.exit(main())
