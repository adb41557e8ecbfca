"""A stand-in recipient, or a fedmsg-relay, run by the sandbox: ``python -m gilmsg.sandbox.standin``.

Both are told on stdin, one JSON value a line, and end with it. The first is a stand-in's configuration, or null:
then this process is a relay, configured by the ``fedmsg.d`` of its working directory.

A stand-in tails the bus as any consumer does. Told ``{"delay": seconds or null}``, null being silence, it says on
stdout what happens, also in JSON lines: ready, message, ack, obeys. A message and its ACK are reported *before* the
ACK leaves: who has the ACK can rely on the report. A relay says what it has to say in plain text.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from .. import _settings
from .._client import context, receive


def say(event: str, **fields: Any) -> None:
    """Report one event: a line, in one step, so that no other thread's is mixed into it."""
    os.write(1, (json.dumps(dict(fields, event=event)) + "\n").encode("ascii"))


class StandIn:
    """What a tail is told to do with its ACKs, on one thread, and what is told on stdin, on another."""

    def __init__(self) -> None:
        self._delay: float | None = 0.0
        self._changed = threading.Event()

    def obey(self) -> None:
        """Follow what is said on stdin until it ends; then end the process."""
        for line in sys.stdin:
            order = json.loads(line)
            self._delay = order["delay"]
            self._changed.set()
            say("obeys", **order)
        os._exit(0)

    def asked(self, envelope: str, message: dict[str, Any], due: bool) -> bool:
        """Report *message*, wait as told, and return whether its ACK may leave."""
        say("message", topic=envelope, message=message, due=due)
        # What needs no ACK (its own ACKs come back to it, too) must not hold up what does.
        if not due:
            return False
        self._changed.clear()  # first: what changes after this line ends the wait
        if self._delay:
            self._changed.wait(self._delay)
        if self._delay is None:
            return False
        say("ack", msg_id=message["msg_id"])
        return True


def _relay() -> None:
    """Be a fedmsg-relay; what it says on stderr goes to the sandbox."""
    os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=lambda: sys.stdin.read() or os._exit(0), daemon=True).start()
    from fedmsg.commands.relay import relay  # type: ignore[import-untyped, unused-ignore]

    sys.exit(relay())


def main() -> None:
    """Run until stdin ends."""
    config = json.loads(sys.stdin.readline())
    if config is None:
        _relay()
    # What this host's fedmsg.d says must not reach the sandbox: cert_prefix, say.
    _settings.replace(config)
    stand_in = StandIn()
    messages = receive.Tail(context.context({}), "", False, stand_in.asked).run()
    next(messages)
    threading.Thread(target=stand_in.obey, daemon=True).start()
    say("ready")
    for _ in messages:
        pass


if __name__ == "__main__":
    main()
