"""Takes the times of the steps of a message, in the publisher and in the recipients; see steps.py.

``python -m tests.benchmarks.watch`` is a recipient that writes them down. The first line on its stdin says
where to, and what to play.
"""

import json
import os
import sys
import time
from typing import Any, Callable, Dict, Optional

from tests.benchmarks import floor, parties

Times = Dict[str, float]


class Watch:
    """Takes the times of one message after the other."""

    def __init__(self) -> None:
        self.times: Times = {}
        #: The id of the message whose times these are.
        self.message = ""

    def method(
        self, owner: Any, name: str, before: Optional[str], after: Optional[str],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Have the time taken *before* and *after* each call of a function, under these names; *then* is called."""
        original = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if before:
                self.times[before] = time.monotonic()
            result = original(*arguments, **options)
            if after:
                self.times[after] = time.monotonic()
            then()
            return result

        setattr(owner, name, watched)

    def signatures(self, owner: Any, name: str, before: str, after: str) -> None:
        """Have the times taken of a method that signs; what it signs says which message it is about."""
        self.method(owner, name, before, after)
        timed = getattr(owner, name)

        def named(signer: Any, message: Dict[str, Any]) -> Any:
            self.message = message["msg"].get("ack_msg_id", message["msg_id"])
            return timed(signer, message)

        setattr(owner, name, named)


def watch_publishers(watch: Watch) -> None:
    from gilmsg import _judge, _keypair, _outlet

    watch.signatures(_keypair.KeyPair, "seal", "sign", "signed")
    watch.method(_outlet.Outlet, "send", None, "sent")
    watch.method(_judge.Judge, "proven", "decode", "verified")
    watch.signatures(floor.Signer, "wire", "sign", "signed")
    watch.method(floor.Floor, "send", None, "sent")
    watch.method(floor.Verifier, "open", "decode", "verified")


def watch_recipients(watch: Watch, write: Callable[[], None]) -> None:
    from gilmsg import _acknowledge, _acks, _keypair, _tail

    watch.method(_acks, "decode", "(decode)", None)
    watch.method(_tail.Tail, "_checked", None, "(verified)")
    watch.signatures(_keypair.KeyPair, "seal", "(sign)", "(signed)")
    watch.method(floor.Verifier, "open", "(decode)", "(verified)")
    watch.signatures(floor.Signer, "wire", "(sign)", "(signed)")
    for owner, name in ((_acknowledge.Acknowledger, "send"), (floor._Answerer, "answer")):
        watch.method(owner, name, None, "(sent)", write)


def main(path: str, module: str, first: Any) -> None:
    """Play what *module* plays, and write the times of each message to *path*."""
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    watch = Watch()
    watch_recipients(watch, lambda: _write(output, watch))
    (parties if module == parties.__name__ else floor).serve(first)


def _write(output: int, watch: Watch) -> None:
    os.write(output, json.dumps([watch.message, watch.times]).encode("ascii") + b"\n")


if __name__ == "__main__":
    main(*json.loads(sys.stdin.readline()))
