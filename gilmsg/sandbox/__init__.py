"""An embedded, signed bus on loopback, with stand-in recipients as processes of their own.

::

    import gilmsg
    from gilmsg.sandbox import Sandbox

    with Sandbox(["backend01", "backend02"]) as bus:
        gilmsg.publish(topic="hello", msg={}, recipients=bus.recipients, **bus.config)
        bus.dead("backend02")

Everything is real: sockets, processes, certificates with a CRL, fedmsg's own settings, and
``validate_signatures=True`` on every side.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from .. import _settings
from .._protocol import is_answer
from ..errors import ConfigurationError
from .folder import PUBLISHER, TOPIC_PREFIX, Authority, Ports, bus_configuration, claim, file_name, write_configuration
from .processes import Talker, can_connect, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_RECIPIENTS", "Authority", "Ports", "Sandbox"]

#: Who is on the bus where nobody is named.
DEFAULT_RECIPIENTS = ("recipient1", "recipient2")

#: Seconds, for all processes together.
_STOP_LIMIT = 1.0

_STAND_IN = "gilmsg.sandbox.standin"


class Sandbox:
    """A bus of one's own. Use it as a context manager, or call ``start`` and ``stop``.

    Args:
        recipients: common names of the stand-ins.
        directory (str): where ``fedmsg.d`` and the keys go, and stay; by default a temporary
            folder, removed at the end. A program started there finds its configuration by itself.
        relay (bool): run a ``fedmsg-relay`` too.
        topic_prefix (str): of the bus.
        on_event: called with (common name, event) as things happen, on a thread of the sandbox; what it
            raises is logged.
        on_wait: called again and again, by whoever waits in a method for one of the processes;
            what it raises ends the waiting.
        settings: further fedmsg configuration.

    Attributes:
        recipients (list): the common names of the stand-ins.
        directory (str): where ``fedmsg.d`` and the keys are.
        config (dict): configuration for a publisher, to be passed as ``**config``.
        authority: the throw-away CA.
        ports: where more free ports come from.

    Raises:
        ConfigurationError: a common name that cannot be a file name, or a *directory* in
            which another sandbox runs, or that holds somebody else's ``pki``.
        OSError: the *directory* cannot be made or written to.
    """

    def __init__(
        self,
        recipients: Sequence[str] = DEFAULT_RECIPIENTS,
        directory: str | None = None,
        relay: bool = False,
        topic_prefix: str = TOPIC_PREFIX,
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
        on_wait: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        self.recipients = [file_name(name) for name in _settings.recipients(recipients)]
        self._has_relay, self._state = relay, "made"
        self._on_event, self._on_wait = on_event, on_wait
        #: Name -> its processes, one after the other: those that are dead had received messages, too.
        self._processes: dict[str, list[Talker]] = {name: [] for name in self.recipients}
        self._orders = itertools.count()
        self.ports = Ports()
        self._undo = contextlib.ExitStack()
        self._undo.callback(self.ports.close)
        try:
            self.directory = claim(directory, self._undo)
            self.authority = Authority(os.path.join(self.directory, "pki"))
            for name in [PUBLISHER, "shell", *self.recipients]:
                on_wait()
                self.authority.issue(name)
            self.config = bus_configuration(self.recipients, self.ports, self.authority, topic_prefix, relay)
            self.config.update(settings)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Write ``fedmsg.d``, start every process, return when all of them listen; stop, should that fail.

        Raises:
            ConfigurationError: it was started, or stopped, before.
            TimeoutError: a process did not come up.
            OSError: ``fedmsg.d`` cannot be written.
        """
        if self._state != "made":
            raise ConfigurationError(f"this sandbox was {self._state} before, and each runs once; make another")
        self._state = "started"
        try:
            write_configuration(self.directory, self.config)
            for name in self.recipients:
                self._launch(name)
            if self._has_relay:
                self._launch_relay()
            for name in self.recipients:
                self._wait_until_ready(name)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove the temporary folder; idempotent, takes a second at most."""
        self._state = "stopped"
        deadline = time.monotonic() + _STOP_LIMIT
        processes = [one for several in self._processes.values() for one in several]
        for one in processes:
            one.hang_up()
        for one in processes:
            one.stop(max(0.0, deadline - time.monotonic()))
        self._undo.close()

    def received(self, common_name: str) -> list[dict[str, Any]]:
        """Return the messages that *common_name* got, in order; answers of others are left out.

        When publish has returned, each recipient that acknowledged holds the message here.
        """
        events = [event for one in self._of(common_name) for event in one.events() if event["event"] == "message"]
        return [event["message"] for event in events if not is_answer(event["topic"])]

    def forget(self) -> None:
        """Forget all messages received so far."""
        for several in self._processes.values():
            del several[:-1]
            for one in several:
                one.clear()

    def is_alive(self, common_name: str) -> bool:
        """Tell if the process of *common_name* runs."""
        return any(one.alive for one in self._of(common_name))

    def silent(self, common_name: str) -> None:
        """Make *common_name* receive without acknowledging.

        Raises:
            ConfigurationError: it is not a recipient here, or it is dead.
            TimeoutError: it does not react.
        """
        self._tell(common_name, None)

    def slow(self, common_name: str, seconds: float) -> None:
        """Make *common_name* wait *seconds* before each ACK; what comes meanwhile waits its turn.

        Raises what ``silent`` does, and ConfigurationError for what is no number of seconds.
        """
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= threading.TIMEOUT_MAX:  # nor nan
            raise ConfigurationError(f"{seconds!r} cannot be waited for; give a number of seconds")
        self._tell(common_name, float(seconds))

    def dead(self, common_name: str) -> None:
        """Kill the process of *common_name* (SIGKILL); raises ConfigurationError as ``silent`` does."""
        for one in self._of(common_name):
            one.kill()

    def well(self, common_name: str) -> None:
        """Make *common_name* acknowledge again, started anew if it has ended.

        Raises:
            ConfigurationError: it is not a recipient here, or the sandbox does not run.
            TimeoutError: it does not react, or does not come up.
        """
        if self.is_alive(common_name):
            self._tell(common_name, 0.0)
        else:
            self.dead(common_name)
            self._launch(common_name)
            self._wait_until_ready(common_name)

    def _of(self, common_name: str) -> list[Talker]:
        if common_name not in self.recipients:
            names = ", ".join(self.recipients)
            raise ConfigurationError(f"{common_name!r} is not a recipient here; these are: {names}")
        return self._processes[common_name]

    def _tell(self, common_name: str, delay: float | None) -> None:
        """Change how *common_name* behaves; return when it has."""
        if not self.is_alive(common_name):
            raise ConfigurationError(f"{common_name} is dead; make it well first")
        stand_in = self._of(common_name)[-1]
        # Numbered, for it may obey late, when nobody waits for that any more.
        order = {"delay": delay, "order": next(self._orders)}
        stand_in.tell(order)
        self._wait_for(lambda: stand_in.said("obeys", **order), f"{common_name} obeys")

    def _wait_for(self, condition: Callable[[], Any], what: str) -> None:
        wait_for(lambda: self._on_wait() or condition(), what)

    def _wait_until_ready(self, name: str) -> None:
        self._wait_for(lambda: self._processes[name][-1].said("ready"), f"{name} is ready")

    def _launch(self, name: str) -> None:
        if self._state != "started":
            what_to_do = "was stopped; make another" if self._state == "stopped" else "was not started; start it first"
            raise ConfigurationError("this sandbox " + what_to_do)
        on_event = self._on_event and functools.partial(self._on_event, name)
        self._processes[name].append(Talker(_STAND_IN, {**self.config, "name": name}, self.directory, on_event))

    def _launch_relay(self) -> None:
        relay = Talker(_STAND_IN, None, self.directory)
        self._processes["relay_outbound"] = [relay]  # which no recipient is called
        for endpoint in [self.config["relay_inbound"], *self.config["endpoints"]["relay_outbound"]]:
            self._wait_for(functools.partial(_listens, relay, endpoint), f"the relay listens at {endpoint}")


def _listens(relay: Talker, endpoint: str) -> bool:
    if relay.alive:
        return can_connect(endpoint)
    said = "\n".join(event["text"] for event in relay.events())[-600:].strip()
    raise TimeoutError(f"fedmsg-relay ended with exit status {relay.status}: {said or 'it said nothing'}")
