"""The time of one confirmed publish, by steps, beside the floor's: ``python -m tests.benchmarks.steps``.

Each step is the median over some thousand messages to one tailing recipient, rounds alternating, RSA-2048. Every
time is taken from the one monotonic clock of the machine, in both processes; what that costs is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Collection, Sequence
from typing import Any, Callable

from tests.benchmarks import floor, members, parties
from tests.benchmarks.figures import with_progress
from tests.benchmarks.parties import no_configuration_of_the_user
from tests.benchmarks.watch import Times, Watch, watch_publishers
from tests.processes import wait_for

ROUNDS, CALLS = 30, 50

#: What ends the steps of a message, in order; in brackets those that the recipient takes.
STEPS = [
    ("prepare", "call", "sign"),
    ("encode, sign", "sign", "signed"),
    ("hand over to libzmq", "signed", "sent"),
    ("(arrive, wake up)", "sent", "(decode)"),
    ("(decode, verify)", "(decode)", "(verified)"),
    ("(prepare the ACK)", "(verified)", "(sign)"),
    ("(encode, sign)", "(sign)", "(signed)"),
    ("(hand over to libzmq)", "(signed)", "(sent)"),
    ("arrive, wake up", "(sent)", "decode"),
    ("decode, verify", "decode", "verified"),
    ("return to the caller", "verified", "returned"),
    ("in all", "call", "returned"),
]


class WatchedBus(parties.Bus):
    """Recipients that write down the times they took, one JSON line for a message."""

    def start(self, module: str, order: Any, env: Any = None) -> parties.Child:
        return super().start("tests.benchmarks.watch", [self.file(module), module, order], env)

    def file(self, module: str) -> str:
        return os.path.join(self.directory, module + ".times")

    def times(self, module: str, messages: Collection[str]) -> dict[str, Times]:
        """Return the times of each of these messages.

        A recipient writes them once its ACK is sent, so the publisher may be here before it.
        """
        found: dict[str, Times] = {}

        def complete() -> bool:
            with open(self.file(module)) as stream:
                # What follows the last line's end is a line that is being written.
                found.update(json.loads(line) for line in stream if line.endswith("\n"))
            return found.keys() >= set(messages)

        wait_for(complete, f"{module} wrote down the times of {len(messages)} messages")
        return found


def measured(rounds: int, calls: int) -> dict[str, list[Times]]:
    """Return the times of each message, *calls* in a round: ours, and the floor's."""
    watch = Watch()
    watch_publishers(watch)
    taken: dict[str, dict[str, Times]] = {"ours": {}, "floor": {}}

    def noted(name: str, call: Callable[[], Any]) -> float:
        watch.times = {"call": time.monotonic()}
        call()
        taken[name][watch.message] = dict(watch.times, returned=time.monotonic())
        return 0.0

    with WatchedBus(["tail"]) as bus:
        bus.tail("tail")
        yardstick = bus.floor(["signed"])
        lane = bus.lane()
        for _ in with_progress(range(rounds), "rounds"):
            for _ in range(calls):
                lane.run(lambda: noted("ours", lambda: members.publish("tail")))
            for _ in range(calls):
                noted("floor", yardstick.confirm)
        for name, module in (("ours", members), ("floor", floor)):
            theirs = bus.times(module.__name__, taken[name])
            taken[name] = {message: dict(one, **theirs[message]) for message, one in taken[name].items()}
    return {name: list(messages.values()) for name, messages in taken.items()}


def table(taken: dict[str, list[Times]]) -> str:
    lines = [f"{'microseconds':<24} {'gilmsg':>8} {'floor':>8} {'more':>8}"]
    for step, begin, end in STEPS:
        ours, theirs = (_median(taken[name], begin, end) for name in ("ours", "floor"))
        lines.append(f"{step:<24} {ours:8.0f} {theirs:8.0f} {ours - theirs:8.0f}")
    return "\n".join(lines)


def _median(taken: Sequence[Times], begin: str, end: str) -> float:
    return 1e6 * statistics.median(one[end] - one[begin] for one in taken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.steps", description="Time a publish by steps.")
    parser.add_argument("--json", action="store_true", help="print the times of each message as JSON")
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    parser.add_argument("calls", type=int, nargs="?", default=CALLS, help="messages in a round")
    options = parser.parse_args()
    with no_configuration_of_the_user():
        taken = measured(options.rounds, options.calls)
    print(json.dumps(taken) if options.json else table(taken))


if __name__ == "__main__":
    main()
