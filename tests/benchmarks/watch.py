"""The times of the steps of a message, in the publisher and in the recipients; see steps.py.

``python -m tests.benchmarks.watch`` is a recipient that writes them down. The first line on its stdin says
where to, which module to play, and the first line for that.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from tests import inside
from tests.benchmarks import floor, members

Times = dict[str, float]

#: A function, by its owner and name: what begins with a call of it, and what ends.
Point = tuple[Any, str, Optional[str], Optional[str]]


class Watch:
    """Takes the times of one message after the other."""

    def __init__(self) -> None:
        self.times: Times = {}
        #: The id of the message whose times these are.
        self.message = ""

    def points(self, points: Iterable[Point]) -> None:
        """Have the time taken before and after each call of these functions."""
        for owner, name, before, after in points:
            self._wrap(owner, name, before, after)

    def _wrap(self, owner: Any, name: str, before: str | None, after: str | None) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if before:
                self.times[before] = time.monotonic()
            result = original(*arguments, **options)
            if after:
                self.times[after] = time.monotonic()
            for message in arguments:  # what is signed says which message it is about
                if isinstance(message, dict) and "msg_id" in message:
                    self.message = message["msg"].get("ack_msg_id", message["msg_id"])
            return result

        setattr(owner, name, watched)


def watch_publishers(watch: Watch) -> None:
    watch.points(inside.PUBLISHER_POINTS)
    watch.points([
        (floor.Signer, "wire", "sign", "signed"),
        (floor.Floor, "send", None, "sent"),
        (floor.Verifier, "open", "decode", "verified"),
    ])  # fmt: skip


def watch_recipients(watch: Watch, write: Callable[[], None]) -> None:
    """Call *write* when an ACK has left."""
    watch.points(inside.RECIPIENT_POINTS)
    watch.points([
        (floor.Verifier, "open", "(decode)", "(verified)"),
        (floor.Signer, "wire", "(sign)", "(signed)"),
        (floor.Answerer, "answer", None, "(sent)"),
    ])  # fmt: skip
    for owner, name in (inside.ACKNOWLEDGE, (floor.Answerer, "answer")):
        _then(owner, name, write)


def _then(owner: Any, name: str, write: Callable[[], None]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, lambda *arguments: (original(*arguments), write()))


def main(path: str, module: str, order: Any) -> None:
    """Play what *module* plays, and write the times of each message to *path*."""
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    watch = Watch()
    watch_recipients(watch, lambda: _write(output, watch))
    (members if module == members.__name__ else floor).play(order)


def _write(output: int, watch: Watch) -> None:
    os.write(output, json.dumps([watch.message, watch.times]).encode("ascii") + b"\n")


if __name__ == "__main__":
    main(*json.loads(sys.stdin.readline()))
