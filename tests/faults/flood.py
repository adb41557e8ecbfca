"""Real publishes while a hostile process floods the ACK topic.

``python -m tests.faults.flood --seconds 30 --rate 20000 [--kind digest] [--relay]`` prints a table: a
line for each kind of junk. Per second: how many frames the attacker *offered*, how many the
connections *took* (the rest is refused to him, because those who hear him are busy), and how many the
listener of the publisher *heard*, which is to say looked at. Beside that how many publishes succeeded and
failed, what they took in milliseconds, and what memory the publisher and the recipient grew by, in MB.

Exit status 1: a publish failed, or there was no flood to speak of: of the junk that is cheap to make and
to refuse (suffix, unknown, digest) the listener heard less than half of what ``--rate`` asks for.

With ``--relay`` junk and real messages and ACKs all pass a fedmsg-relay, by one connection to each; see
test_flood.py for what holds there.
"""

import argparse
import contextlib
import logging
import socket
import sys
import time
from typing import NamedTuple

import psutil
import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import make_room
from ..processes import Whole, wait_for
from .talker import Talker

KINDS = ("suffix", "unknown", "digest", "signature", "certificate", "padded")

#: Those that need no signature made or checked: a machine on which the others are slow keeps up with them.
CHEAP = ("suffix", "unknown", "digest")

RATE = 20000
VICTIM = "alice"

#: Publishes in a flood, however short it is.
_FEWEST = 3

#: Seconds past its time in which a flood must have become one.
_LONGEST = 60.0


class Figures(NamedTuple):
    """What came of a flood; rates in frames a second."""

    kind: str
    offered: float
    taken: float
    heard: float
    #: Seconds of each publish that succeeded; why the others did not.
    took: list[float]
    failures: list[str]
    grown: float
    victim_grown: float

    HEADER = (
        f"{'kind':12} {'offered/s':>9} {'taken/s':>9} {'heard/s':>9} {'good':>6} {'failed':>6} {'median':>7} {'p99':>7} "
        f"{'slowest':>7} {'grown, MB':>10} {'hers, MB':>11}"
    )

    def __str__(self):
        took = sorted(self.took) or [float("nan")]
        median, late, slowest = (1000 * took[int(part * (len(took) - 1))] for part in (0.5, 0.99, 1.0))
        return (
            f"{self.kind:12} {self.offered:9.0f} {self.taken:9.0f} {self.heard:9.0f} {len(self.took):6} "
            f"{len(self.failures):6} {median:7.1f} {late:7.1f} {slowest:7.1f} {self.grown:10.1f} {self.victim_grown:11.1f}"
        )


class Heard:
    """Counts the frames that reach the listener's thread; everything else stays as it is."""

    def __init__(self):
        self.frames = 0

    @contextlib.contextmanager
    def counting(self):
        with pytest.MonkeyPatch.context() as patch:
            inside.spy(patch, self._count)
            yield self

    def _count(self, parts):
        self.frames += 1


class Flood(Whole):
    """A hostile process at work, as a context manager."""

    def __init__(self, config, kind, rate, relay=False):
        order = {"config": config, "victim": VICTIM, "kind": kind, "rate": rate, "relay": relay}
        order["hears"] = "{}.{}.flood.".format(config["topic_prefix"], config["environment"])
        self._config = config
        self._process = Talker("tests.faults.hostile", order)

    def _start(self):
        self._process.hear("ready")
        wait_for(self._baited, "the attacker hears us")

    def __exit__(self, *_):
        self._process.stop()

    def _baited(self):
        """Send what nobody confirms, and see whether the attacker aims at it."""
        gilmsg.publish_async(
            topic="bait", modname="flood", msg={}, recipients=["nobody"], ack_timeout=3600.0,
            **dict(self._config, **{"gilmsg.head_start": 0})
        )
        try:
            return wait_for(lambda: any(event.get("bait") for event in self._process.events()), "bait", 0.3)
        except TimeoutError:
            return False

    def sent(self):
        """Return what it has sent so far, and when."""
        before = len(self._process.events())
        self._process.order("how much?")
        return wait_for(lambda: self._process.said("sent", before), "the attacker's count", 60.0)


def run(config, victim_pid, kind, seconds, ack_timeout, rate=RATE, relay=False, least=0):
    """Publish one after the other in a flood of *kind*, for *seconds*, three times at least; return the figures.

    It also goes on until *least* frames of junk were looked at; that they never are is a TimeoutError.
    """
    heard = Heard()
    # Before the flood: a lie about the victim's presence cuts a young publisher's wait short.
    warm(config)
    with heard.counting(), Flood(config, kind, rate, relay) as flood:
        wait_for(lambda: heard.frames > 100, "the flood arrives", 60.0)
        memory, frames, sent = memory_of(victim_pid), heard.frames, flood.sent()
        took, failures = [], []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(took) + len(failures) < _FEWEST or heard.frames - frames < least:
            if time.monotonic() > until + _LONGEST:
                raise TimeoutError(f"no flood: only {heard.frames - frames} frames were heard")
            try:
                took.append(publish(config, ack_timeout))
            except gilmsg.Timeout as timeout:
                failures.append(str(timeout))
        now, frames, grown = flood.sent(), heard.frames - frames, memory_of(victim_pid)
        elapsed = now["now"] - sent["now"]
    rates = [(now[what] - sent[what]) / elapsed for what in ("offered", "taken")] + [frames / elapsed]
    return Figures(kind, *rates, took, failures, *(after - at for at, after in zip(memory, grown)))


def warm(config):
    """Publish until that is confirmed: behind a relay nobody sees when the victim is there."""

    def confirmed():
        try:
            return publish({**config, "gilmsg.head_start": 20.0}, 5.0)
        except gilmsg.Timeout:
            return False

    wait_for(confirmed, "the victim answers", 60.0)


def publish(config, ack_timeout):
    """Publish to the victim; return how many seconds that took, or raise Timeout."""
    start = time.monotonic()
    gilmsg.publish(topic="t", modname="flood", msg={}, recipients=[VICTIM], ack_timeout=ack_timeout, **config)
    return time.monotonic() - start


def memory_of(victim_pid):
    """Return what this process and the victim's hold, in MB."""
    return [psutil.Process(pid).memory_info().rss / 1e6 for pid in (None, victim_pid)]


@contextlib.contextmanager
def direct():
    """A bus with room for the attacker; yields its configuration and the process id of the victim."""
    bus = Sandbox([VICTIM])
    make_room(bus, "hostile")
    with bus:
        yield bus.config, inside.stand_in(bus, VICTIM)


@contextlib.contextmanager
def relayed():
    """The same behind a relay: publisher, victim and attacker are connected to the relay only."""
    with Sandbox([VICTIM], relay=True) as bus:
        bus.dead(VICTIM)
        inner = dict(
            bus.config, active=True, name="relay_inbound",
            endpoints={"relay_outbound": bus.config["endpoints"]["relay_outbound"]},
        )
        victim = Talker(inside.STAND_IN, signing_as(inner, VICTIM), cwd=bus.directory)
        try:
            victim.hear("ready")
            yield signing_as(inner, "publisher"), victim.pid
        finally:
            victim.__exit__()


def signing_as(config, name):
    return dict(config, certnames={"shell." + socket.gethostname().partition(".")[0]: name})


def wrong(figures, rate):
    """Return what is wrong with *figures* of a flood of *rate* junk frames a second, in words."""
    found = [f"{figures.kind}: {failure}" for failure in figures.failures[:1]]
    if figures.kind in CHEAP and figures.heard < rate / 2:
        found.append(f"{figures.kind}: no flood: heard {figures.heard:.0f}/s of {rate}/s")
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--ack-timeout", type=float, default=0.25, help="of the real publishes, in seconds (0.25)")
    parser.add_argument("--relay", action="store_true")
    options = parser.parse_args(arguments)
    print(Figures.HEADER, flush=True)
    logging.getLogger("gilmsg").setLevel(logging.ERROR)
    why = []
    for kind in options.kind or KINDS:
        with relayed() if options.relay else direct() as (config, pid):
            figures = run(config, pid, kind, options.seconds, options.ack_timeout, options.rate, options.relay)
            gilmsg.destroy()
        print(figures, flush=True)
        why += wrong(figures, options.rate)
    print("".join(one + "\n" for one in why), end="")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
