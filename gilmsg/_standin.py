"""A stand-in recipient, run as a process of its own by the sandbox: ``python -m gilmsg._standin``.

It tails the bus as any consumer does. Told on stdin (one JSON value a line; the first is its
configuration, then ``{"delay": seconds or null}``, null being silence), it says on stdout
what happens, also in JSON lines: ready, message, ack. A message is reported *before* its
ACK leaves: who has the ACK can rely on the report.
"""

import json
import os
import sys
import threading
from typing import Any, Dict, Optional

from . import _bus, _config_files
from ._tail import Tail

_saying = threading.Lock()

#: Seconds. To report an ACK that has left takes a moment.
_LAST_WORDS = 1.0


def say(event: str, **fields: Any) -> None:
    """Report one event, in a line that no other thread's is mixed into: one may exceed what a pipe takes at once."""
    line = json.dumps(dict(fields, event=event)) + "\n"
    with _saying:
        sys.stdout.write(line)
        sys.stdout.flush()


class StandIn:
    """How a tail behaves: it reports each message, and can be slow or silent."""

    def __init__(self) -> None:
        self._delay: Optional[float] = 0.0
        self._changed = threading.Event()
        #: Whether the message that was reported last is to be acknowledged.
        self._answers = False
        #: Not set from when an ACK may leave until it is reported.
        self._reported = threading.Event()
        self._reported.set()

    def obey(self) -> None:
        """Follow what is said on stdin until it ends; then end the process."""
        for line in sys.stdin:
            order = json.loads(line)
            self._delay = order["delay"]
            self._changed.set()
            say("obeys", **order)
        # Whoever got the ACK may end us at once; what became of it is told first, unless it takes too long.
        self._reported.wait(_LAST_WORDS)
        os._exit(0)

    def asked(self, envelope: str, message: Dict[str, Any], due: bool) -> bool:
        """Report *message*, wait as told, and return whether its ACK may leave."""
        say("message", topic=envelope, message=message, due=due)
        # What needs no ACK (its own ACKs come back to it, too) must not hold up what does.
        self._answers = due and self._waits()
        if self._answers:
            self._reported.clear()
        return self._answers

    def handed_over(self, message: Dict[str, Any]) -> None:
        """Report that the ACK of *message* has left, if it was to."""
        if self._answers:
            say("ack", msg_id=message.get("msg_id"))
        self._answers = False
        self._reported.set()

    def _waits(self) -> bool:
        """Wait as told; return whether it is not silent."""
        self._changed.clear()  # first: what changes after this line ends the wait
        if self._delay:
            self._changed.wait(self._delay)
        return self._delay is not None


def main() -> None:
    """Run until stdin ends."""
    # What this host's fedmsg.d says must not reach the sandbox: cert_prefix, say.
    _config_files.replace(json.loads(sys.stdin.readline()))
    stand_in = StandIn()
    messages = Tail(_bus.context({}), "", False, stand_in.asked).run()
    next(messages)
    threading.Thread(target=stand_in.obey, daemon=True).start()
    say("ready")
    for item in messages:  # pragma: no branch  it goes on until os._exit
        assert item is not None  # that was the first one, above
        stand_in.handed_over(item[3])


if __name__ == "__main__":
    main()
