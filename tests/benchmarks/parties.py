"""The processes that are measured: a bus, recipients of each kind, and the yardstick's."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Callable

import fedmsg
import fedmsg.config
from cryptography.hazmat.primitives.asymmetric import rsa

import gilmsg
from gilmsg.sandbox import Sandbox
from tests.benchmarks.figures import timed
from tests.benchmarks.floor import Floor
from tests.helpers import Hub
from tests.processes import Program, wait_for


class Child(Program):
    """A module that runs as a process: *order* is the first line on its stdin, and what it says are lines of JSON.

    Entered when it has said its first line, the ``answer``.
    """

    def __init__(self, module: str, order: Any, env: Mapping[str, str] | None = None) -> None:
        super().__init__([sys.executable, "-W", "ignore", "-m", module], env=env)
        self.module, self._order, self._heard = module, order, 0

    def wait_until_ready(self) -> None:
        self.answer = self.ask(self._order)

    def ask(self, line: Any) -> Any:
        """Tell it *line*; return the next line that it says."""
        self.tell(json.dumps(line) + "\n")

        def more() -> list[str]:
            alive = self.alive  # before the last look
            lines: list[str] = self.lines[self._heard:]
            if not (alive or lines):
                raise TimeoutError(f"it has ended: {self}")
            return lines

        line = wait_for(more, f"the next line of {self.module}")[0]
        self._heard += 1
        return json.loads(line)


class Bus:
    """A sandbox whose recipients are started one by one; as a context manager it ends them all.

    Each recipient listens to the topic of its own name, so that one at a time is at work.
    """

    def __init__(self, names: Sequence[str] = (), bits: int = 2048, **sandbox: Any) -> None:
        self._sandbox = Sandbox([], **sandbox)
        self._stack = ExitStack()
        #: One key for all: what is measured does not depend on whose it is.
        self._key = rsa.generate_private_key(65537, bits)
        self.config = self._sandbox.config
        self._declare(self.config, "publisher", "shell", *names)

    def _declare(self, config: dict[str, Any], *names: str) -> None:
        for name in names:
            self._sandbox.authority.issue(name, key=self._key)
            config["certnames"].setdefault(name, name)
            if name != "shell" and name not in config["endpoints"]:
                config["endpoints"][name] = [self._sandbox.ports.endpoint()]

    def __enter__(self) -> Bus:  # noqa: PYI034  typing_extensions is no dependency of ours
        self._stack.enter_context(self._sandbox)
        # Where fedmsg.d is: plain fedmsg.init() takes no configuration from its caller alone.
        self._stack.callback(os.chdir, os.getcwd())
        os.chdir(self.directory)
        forget_configuration()
        return self

    def __exit__(self, *error: object) -> None:
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

    def start(self, module: str, order: Any, env: Mapping[str, str] | None = None) -> Child:
        """Start a module of ours, see `Child`; it ends with the bus."""
        return self._stack.enter_context(Child(module, order, env))

    def tail(self, name: str, role: str = "tail", env: Mapping[str, str] | None = None) -> None:
        """Start a tailing recipient; *role*: see members.py."""
        if role == "direct":
            self.config["endpoints"][name].append(self._sandbox.ports.endpoint())
        self.start("tests.benchmarks.members", {"role": role, "config": dict(self.config, name=name)}, env)

    def hub(self) -> None:
        """Start a fedmsg-hub with a GilmsgConsumer, the recipient ``hub``."""
        folder = pathlib.Path(self.directory) / "hub"
        config = dict(self.config, name="hub")
        self._stack.enter_context(Hub(folder, config, ["Idle"], "tests.benchmarks.consumer"))

    def bare(self, names: Sequence[str]) -> None:
        """Start bare recipients, see floor.py, of what gilmsg publishes on the floor's topic."""
        self.start("tests.benchmarks.floor", [self.config, "publisher", list(names), True])

    def floor(
        self, names: Sequence[str], signed: bool = True, name: str = "floor", publishing: Any = Floor,
        answering: str = "tests.benchmarks.floor",
    ) -> Any:
        """Return the yardstick for recipients of these names, running; it has endpoints of its own, and *name*."""
        config = dict(self.config, endpoints={}, certnames={})
        self._declare(config, name, *names)
        self.start(answering, [config, name, list(names), signed])
        floor = publishing(config, name, list(names), signed)
        self._stack.callback(floor.close)
        return floor

    def lane(self, **config: Any) -> Lane:
        """Return a thread with a gilmsg context of its own."""
        return self._lane(lambda: gilmsg.init(**{**self.config, **config}))

    def plain_lane(self) -> Lane:
        """Return a thread with a context of plain fedmsg's."""
        return self._lane(lambda: fedmsg.init(**self.config))

    def _lane(self, begin: Callable[[], Any]) -> Lane:
        lane = Lane(begin)
        self._stack.callback(lane.close)
        return lane


def forget_configuration() -> None:
    """Make fedmsg read its files anew; it keeps what it read, and what init() was given."""
    setattr(fedmsg.config, "__cache", {})


@contextmanager
def no_configuration_of_the_user() -> Iterator[None]:
    """Hide the fedmsg.d of whoever runs this: in the home directory and the environment."""
    with tempfile.TemporaryDirectory(prefix="gilmsg-benchmarks-") as folder:
        os.environ["HOME"] = folder
        os.environ.pop("VIRTUAL_ENV", None)
        yield


class Lane:
    """A thread, since a fedmsg context belongs to one; what runs in it is timed in it."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.run(begin)

    def timed(self, call: Callable[[], Any]) -> float:
        """Return the seconds that *call* takes."""
        return self.run(lambda: timed(call))

    def run(self, call: Callable[[], Any]) -> Any:
        """Return what *call* returns."""
        return self._thread.submit(call).result()

    def close(self) -> None:
        self.run(fedmsg.destroy)
        self._thread.shutdown()
