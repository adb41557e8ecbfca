"""The signed floor with an engine thread in the publisher, and at both ends: ``python -m tests.benchmarks.hops``.

That is the least that gilmsg's design can take: the floor's work and nothing else, but whoever signs is not who owns
the sockets. What gilmsg takes beyond it is gilmsg's own code.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import threading
from typing import Any

from tests.benchmarks import engines, floor, members, parties
from tests.benchmarks.figures import timed, with_progress
from tests.benchmarks.parties import no_configuration_of_the_user

ROUNDS, CALLS = 40, 50

#: Messages that are on their way at once, where they do not wait for each other.
AT_ONCE = 500

#: The ways to confirm a message, as the table names them.
WAYS = "signed floor", "engine in the publisher", "engine at both ends", "gilmsg"


class Floor(floor.Floor):
    """The publishing side, whose sockets are an engine thread's."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: Id -> digest, and the lock of whoever waits for that message alone.
        self._open: dict[str, tuple[str, threading.Lock | None]] = {}
        self._all_heard = threading.Event()
        self._engine = engines.Engine(self._sub, self._hear)

    def confirm_by_engine(self) -> None:
        """Send one message to our one recipient; return when it has proven receipt."""
        message, wire, digest = self.signed()

        def send(ended: threading.Lock) -> None:
            self._open[message["msg_id"]] = digest, ended
            self._pub.send_multipart([floor.TOPIC, wire])

        self._engine.wait_for(send)

    def pipelined_by_engine(self, count: int) -> None:
        """Send *count* messages one after the other; return when our one recipient has proven receipt of them all."""
        self._all_heard.clear()
        for left in reversed(range(count)):
            self._engine.put(functools.partial(self._leave, *self.signed(), left))
        if not self._all_heard.wait(floor.LIMIT):
            raise TimeoutError("the floor is not answered")

    def _leave(self, message: dict[str, Any], wire: bytes, digest: str, left: int) -> None:
        self._open[message["msg_id"]] = digest, None
        self._awaited = left
        self._pub.send_multipart([floor.TOPIC, wire])

    def _hear(self) -> None:
        ack, _, name = self._verifier.open(self._sub.recv_multipart()[1])
        digest, ended = self._open.pop(ack["msg"]["ack_msg_id"])
        if name not in self._names or ack["msg"]["ack_digest"] != digest:
            return
        if ended is not None:
            ended.release()
        elif not self._open and not self._awaited:
            self._all_heard.set()


def measured(rounds: int, calls: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return, for each way to confirm a message, the median seconds of each round: of one by one, and of all at once."""
    found: dict[str, list[float]] = {}
    pipelined: dict[str, list[float]] = {}
    with parties.Bus(["tail"]) as bus:
        bus.tail("tail")
        plain = bus.floor(["plain"])
        one = bus.floor(["one"], name="floor1", publishing=Floor)
        both = bus.floor(["both"], name="floor2", publishing=Floor, answering=engines.__name__)
        lane = bus.lane()
        ours = lambda: members.publish("tail")
        ways = plain.confirm, one.confirm_by_engine, both.confirm_by_engine, ours
        at_once = plain.pipelined, one.pipelined_by_engine, both.pipelined_by_engine, members.publish_at_once
        for _ in with_progress(range(rounds), "rounds"):
            for name, way, all_of in zip(WAYS, ways, at_once):
                took = lane.run(lambda way=way: [timed(way) for _ in range(calls)])
                found.setdefault(name, []).append(statistics.median(took))
                took_all = lane.run(lambda all_of=all_of: timed(lambda: all_of(AT_ONCE)))
                pipelined.setdefault(name, []).append(took_all / AT_ONCE)
    return found, pipelined


def table(what: str, found: dict[str, list[float]]) -> str:
    lines = [f"{what:<24} microseconds  / floor"]
    for name, rounds in found.items():
        ratios = [ours / yardstick for ours, yardstick in zip(rounds, found[WAYS[0]])]
        lines.append(f"{name:<24} {1e6 * statistics.median(rounds):12.0f} {statistics.median(ratios):8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hops", description=__doc__.split("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    parser.add_argument("calls", type=int, nargs="?", default=CALLS, help="messages in a round")
    options = parser.parse_args()
    with no_configuration_of_the_user():
        one_by_one, at_once = measured(options.rounds, options.calls)
    print(table("one by one", one_by_one), table(f"{AT_ONCE} at once", at_once), sep="\n\n")


if __name__ == "__main__":
    main()
