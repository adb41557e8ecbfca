"""The processes that are measured: a bus, recipients of each kind, and the yardstick's.

``python -m tests.benchmarks.parties`` is a recipient as README shows it: a loop over
``gilmsg.tail_messages``.
"""

import json
import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Callable, Dict, Sequence

import fedmsg
import fedmsg.config

import gilmsg
from gilmsg.sandbox import Sandbox
from gilmsg.sandbox import pki as _pki
from tests.benchmarks.figures import timed
from tests.benchmarks.floor import LIMIT, Floor
from tests.helpers import Hub

from ..talking import Talker

CONSUMER = '''
import gilmsg


class Idle(gilmsg.GilmsgConsumer):
    topic = "org.example.dev.benchmark.%s"

    def consume(self, message):
        pass
'''


class Bus:
    """A sandbox whose recipients are started one by one; as a context manager it ends them all.

    Each recipient listens to the topic of its own name, so that one at a time is at work.
    """

    def __init__(self, names: Sequence[str] = (), bits: int = 2048, **sandbox: Any) -> None:
        self._sandbox = Sandbox([], **sandbox)
        self._stack = ExitStack()
        #: One key for all: what is measured does not depend on whose it is.
        self._key = _pki.new_key(bits)
        self.config = self._sandbox.config
        self._declare(self.config, "publisher", "shell", *names)

    def _declare(self, config: Dict[str, Any], *names: str) -> None:
        for name in names:
            self._sandbox.authority.issue(name, key=self._key)
            config["certnames"].setdefault(name, name)
            if name != "shell" and name not in config["endpoints"]:
                config["endpoints"][name] = [self._sandbox.ports.endpoint()]

    def __enter__(self) -> "Bus":
        self._stack.enter_context(self._sandbox)
        # Where fedmsg.d is: plain fedmsg.init() takes no configuration from its caller alone.
        self._stack.callback(os.chdir, os.getcwd())
        os.chdir(self.directory)
        forget_configuration()
        return self

    def __exit__(self, *error: Any) -> None:
        gilmsg.destroy()
        forget_configuration()
        self._stack.close()

    @property
    def directory(self) -> str:
        """Where a program finds this bus by its ``fedmsg.d``."""
        return self._sandbox.directory

    def free_port(self) -> int:
        """Return a port that is nobody's but ours."""
        return self._sandbox.ports.take()

    def tail(self, name: str) -> None:
        """Start a tailing recipient."""
        self._talk("tests.benchmarks.parties", dict(self.config, name=name))

    def hub(self, name: str) -> None:
        """Start a fedmsg-hub with a GilmsgConsumer."""
        folder = pathlib.Path(self.directory) / name
        config = dict(self.config, name=name)
        self._stack.enter_context(Hub(folder, config, ["Idle"], CONSUMER % name))

    def bare(self, names: Sequence[str]) -> None:
        """Start bare recipients, see floor.py, of what gilmsg publishes on the floor's topic."""
        self._talk("tests.benchmarks.floor", [self.config, "publisher", list(names), True])

    def floor(self, names: Sequence[str], signed: bool = True) -> Floor:
        """Return the yardstick for recipients of these names, running; it has endpoints of its own."""
        config = dict(self.config, endpoints={}, certnames={})
        self._declare(config, "floor", *names)
        self._talk("tests.benchmarks.floor", [config, "floor", list(names), signed])
        floor = Floor(config, "floor", list(names), signed)
        self._stack.callback(floor.close)
        return floor

    def _talk(self, module: str, first: Any) -> None:
        talker = Talker(module, first)
        self._stack.callback(talker.stop)
        talker.wait_for("ready", 60.0)

    def lane(self, **config: Any) -> "Lane":
        """Return a thread with a gilmsg context of its own."""
        lane = Lane(lambda: gilmsg.init(**dict(self.config, **config)))
        self._stack.callback(lane.close)
        return lane

    def plain_lane(self) -> "Lane":
        """Return a thread with a context of plain fedmsg's."""
        lane = Lane(lambda: fedmsg.init(**self.config))
        self._stack.callback(lane.close)
        return lane


def forget_configuration() -> None:
    """Make fedmsg read its files anew; it keeps what it read, and what init() was given."""
    setattr(fedmsg.config, "__cache", {})


class Lane:
    """A thread, since a fedmsg context belongs to one; what runs in it is timed in it."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(begin).result()

    def timed(self, call: Callable[[], Any]) -> float:
        """Return the seconds that *call* takes."""
        return self.run(lambda: timed(call))

    def run(self, call: Callable[[], float]) -> float:
        """Return what *call* returns."""
        return self._thread.submit(call).result()

    def close(self) -> None:
        self._thread.submit(fedmsg.destroy).result()
        self._thread.shutdown()


def publish(recipient: str, **options: Any) -> Any:
    """Publish what *recipient* alone listens to."""
    return gilmsg.publish(
        topic=recipient, modname="benchmark", msg={"n": 1}, recipients=[recipient],
        **dict({"ack_timeout": LIMIT}, **options)
    )


def serve(config: Dict[str, Any]) -> None:
    """Tail the bus until stdin ends."""
    messages = gilmsg.tail_messages(topic="org.example.dev.benchmark." + config["name"], **config)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(json.dumps({"event": "ready"}), flush=True)
    for _ in messages:
        pass


if __name__ == "__main__":
    serve(json.loads(sys.stdin.readline()))

