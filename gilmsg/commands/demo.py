"""Publish a signed message on an embedded bus, show each ACK, then kill a recipient and show
the Timeout. With --outbox: kill a recipient, put two messages for it into an outbox, end the
publisher, let the recipient come back, and show that both are delivered. Nothing is left behind.
Exit status: 0 if all went as promised, 1 if not, 2 for
bad usage, or if the bus did not come up.

Examples::

    $ gilmsg-demo
    $ gilmsg-demo --outbox
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Callable

import gilmsg
from gilmsg.sandbox import Sandbox

from . import NOT_PROVEN, SUCCESS, Signals, command_parser, complain, opened_outbox, script, tell

if TYPE_CHECKING:
    from gilmsg.outbox import Outbox, OutboxMessage

PROG = "gilmsg-demo"

RECIPIENTS = ["backend01", "backend02", "backend03"]


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(PROG, __doc__)
    parser.add_argument("--outbox", action="store_true", help="show how an outbox delivers what had to wait")
    shows = [_shows_outbox] if parser.parse_args(arguments).outbox else [_shows_success, _shows_timeout]
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    tell(f"Making a throw-away CA, a CRL and certificates; starting {len(RECIPIENTS)} recipients ...")
    signals = Signals(signal.SIGINT)  # Ctrl-C must not interrupt the start of a process
    with Sandbox(RECIPIENTS, on_wait=signals.check) as bus, signals.raised():
        try:
            return SUCCESS if all(show(bus) for show in shows) else NOT_PROVEN
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


#: Seconds for what comes of an outbox, and between two looks at it.
_PATIENCE, _LOOK_AGAIN = 60.0, 0.05


def _shows_outbox(bus: Sandbox) -> bool:
    victim, path = RECIPIENTS[-1], os.path.join(bus.directory, "outbox.sqlite")
    settings = {"gilmsg.head_start": 1.0, "gilmsg.outbox.ack_timeout": 2.0}
    with opened_outbox(path, create=True) as box:
        tell(f"\n1. Kill {victim}. A publisher puts two messages for it into an outbox, and exits.")
        bus.dead(victim)
        publisher = [sys.executable, "-m", "gilmsg.commands.logger", "--outbox", path, "--recipients", victim]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the gilmsg that runs here
        status = subprocess.run(publisher, cwd=bus.directory, env=env, input="one\ntwo\n", text=True, check=False).returncode
        ids = [message.msg_id for message in box.list()]
        tell(f"   Its exit status is {status}; in the outbox are:\n   " + "\n   ".join(ids))
        tell(f"\n2. A deliverer starts. {victim} is not there, so they wait.")
        box.start(**{**bus.config, **settings})
        try:
            waiting = _until(box, ids, lambda one: one.attempts > 0)
            for message in waiting:
                tell(f"   {message.msg_id} waits: {victim}: {message.missing.get(victim)}")
            tell(f"\n3. {victim} comes back.")
            bus.well(victim)
            came = time.time()
            for message in (delivered := _until(box, ids, lambda one: one.state == "delivered")):
                seconds = message.acks[victim] - came
                tell(f"   {message.msg_id} confirmed by {victim}, {max(0.0, seconds):.1f} s later, at attempt {message.attempts}")
        finally:
            box.stop()
    return status == SUCCESS and len(waiting) == len(delivered) == 2


def _until(box: Outbox, ids: list[str], condition: Callable[[OutboxMessage], bool]) -> list[OutboxMessage]:
    """Return these messages once *condition* holds for all of them; those for which it does, if that takes too long."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = [message for message in map(box.get, ids) if message is not None and condition(message)]
        if len(found) == len(ids) or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_AGAIN)


if __name__ == "__main__":
    sys.exit(main())
