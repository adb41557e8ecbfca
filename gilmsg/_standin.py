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
from typing import Any, Dict, Mapping, Optional

from . import _bus
from ._tail import Tail


def say(event: str, **fields: Any) -> None:
    """Report one event."""
    line = json.dumps(dict(fields, event=event)) + "\n"
    os.write(sys.stdout.fileno(), line.encode("ascii"))


class StandIn(Tail):
    """A tail that reports, and that can be made slow or silent."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(_bus.context(config), "", False)
        self._delay: Optional[float] = 0.0
        self._changed = threading.Event()

    def obey(self) -> None:
        """Follow what is said on stdin until it ends; then end the process."""
        for line in sys.stdin:
            self._delay = json.loads(line)["delay"]
            self._changed.set()
            say("obeys", delay=self._delay)
        os._exit(0)

    def _acknowledge(self, envelope: str, message: Dict[str, Any]) -> None:
        say("message", topic=envelope, message=message, due=self._due(message))
        delay = self._delay
        if delay:
            self._changed.clear()
            self._changed.wait(delay)
        if delay is not None:
            super()._acknowledge(envelope, message)
            if self._due(message):
                say("ack", msg_id=message.get("msg_id"))

    def _due(self, message: Dict[str, Any]) -> bool:
        return self._acknowledger is not None and self._acknowledger.due(message, True) is not None


def main() -> None:
    """Run until stdin ends."""
    stand_in = StandIn(json.loads(sys.stdin.readline()))
    messages = stand_in.run()
    next(messages)
    threading.Thread(target=stand_in.obey, daemon=True).start()
    say("ready")
    for _ in messages:
        pass


if __name__ == "__main__":
    main()
