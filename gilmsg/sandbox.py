"""An embedded, signed bus on loopback, with stand-in recipients as processes of their own.

::

    from gilmsg.sandbox import Sandbox

    with Sandbox(["backend01", "backend02"]) as bus:
        gilmsg.publish(topic="hello", msg={}, recipients=bus.recipients, **bus.config)
        bus.dead("backend02")

Everything is real: sockets, processes, certificates with a CRL, fedmsg's own settings, and
``validate_signatures=True`` on every side.
"""

import functools
import os
import pprint
import shutil
import subprocess
import tempfile
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Sequence, Type

from . import _acks, _bus, _process, _settings
from ._pki import Authority, write
from ._ports import Ports
from ._process import Talker
from .errors import ConfigurationError

__all__ = ["Sandbox"]

#: The name, and the common name, of whoever publishes on the sandbox's bus.
PUBLISHER = "publisher"

#: Processes that can publish under that name at a time.
_PUBLISHERS = 8


class Sandbox:
    """A bus of one's own. Use it as a context manager, or call ``start`` and ``stop``.

    Args:
        recipients: common names of the stand-ins.
        directory (str): where ``fedmsg.d`` and the keys go; by default a temporary folder,
            removed at the end. A program started there finds its configuration by itself.
        relay (bool): run a ``fedmsg-relay`` too.
        topic_prefix (str): of the bus.
        on_event: called with (common name, event) as things happen, on a thread of the sandbox.
        settings: further fedmsg configuration.

    Attributes:
        recipients (list): the common names of the stand-ins.
        config (dict): configuration for a publisher, to be passed as ``**config``.
        authority: the throw-away CA.
        ports: where more free ports come from.

    Raises:
        ConfigurationError: a common name that cannot be a file name.
    """

    def __init__(
        self,
        recipients: Sequence[str] = ("recipient1", "recipient2"),
        directory: Optional[str] = None,
        relay: bool = False,
        topic_prefix: str = "org.example",
        on_event: Optional[Callable[[str, Dict[str, Any]], None]] = None,
        **settings: Any,
    ) -> None:
        self.recipients = [_file_name(name) for name in _settings.recipients(recipients)]
        self._temporary = directory is None
        self.directory = os.path.abspath(directory or tempfile.mkdtemp(prefix="gilmsg-"))
        self._relay = relay
        self._relay_process: "Optional[subprocess.Popen[bytes]]" = None
        self._on_event = on_event
        self._stand_ins: Dict[str, Talker] = {}
        self._earlier: Dict[str, List[Dict[str, Any]]] = {name: [] for name in self.recipients}
        self.ports = Ports()
        self.authority = Authority(os.path.join(self.directory, "pki"))
        for name in [PUBLISHER, "shell"] + self.recipients:
            self.authority.issue(name)
        self.config = self._configuration(topic_prefix, settings)

    def __enter__(self) -> "Sandbox":
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()

    def start(self) -> "Sandbox":
        """Write ``fedmsg.d``, start every process, and return when all of them are listening.

        Raises:
            TimeoutError: a process did not come up.
        """
        folder = os.path.join(self.directory, "fedmsg.d")
        os.makedirs(folder, exist_ok=True)
        text = "config = %s\n" % pprint.pformat(self.config, width=100)
        write(os.path.join(folder, "gilmsg-sandbox.py"), text.encode("utf-8"))
        for name in self.recipients:
            self._launch(name)
        if self._relay:
            self._launch_relay()
        for stand_in in self._stand_ins.values():
            stand_in.wait_for("ready")
        return self

    def stop(self) -> None:
        """End every process and remove the temporary folder; idempotent."""
        for name in list(self._stand_ins):
            self._stand_ins.pop(name).stop()
        if self._relay_process is not None:
            _process.stop(self._relay_process)
            self._relay_process = None
        self.ports.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def received(self, common_name: str) -> List[Dict[str, Any]]:
        """Return the messages that *common_name* got, in order; ACKs of others are left out.

        When publish has returned, each recipient that acknowledged holds the message here.
        """
        return self._earlier[common_name] + _messages(self._stand_ins.get(common_name))

    def silent(self, common_name: str) -> None:
        """Make *common_name* receive without acknowledging."""
        self._tell(common_name, None)

    def slow(self, common_name: str, seconds: float) -> None:
        """Make *common_name* wait before each ACK."""
        self._tell(common_name, float(seconds))

    def dead(self, common_name: str) -> None:
        """Kill the process of *common_name* (SIGKILL)."""
        stand_in = self._stand_ins.pop(self._known(common_name), None)
        if stand_in is not None:
            stand_in.kill()
            self._earlier[common_name] += _messages(stand_in)

    def well(self, common_name: str) -> None:
        """Make *common_name* acknowledge again, started anew if it is dead."""
        if self._known(common_name) not in self._stand_ins:
            self._launch(common_name)
            self._stand_ins[common_name].wait_for("ready")
        else:
            self._tell(common_name, 0.0)

    def _known(self, common_name: str) -> str:
        if common_name not in self.recipients:
            raise ConfigurationError(
                "%r is not a recipient here; these are: %s"
                % (common_name, ", ".join(self.recipients))
            )
        return common_name

    def _tell(self, common_name: str, delay: Optional[float]) -> None:
        """Change how *common_name* behaves; return when it has."""
        stand_in = self._stand_ins.get(self._known(common_name))
        if stand_in is None:
            raise ConfigurationError("%s is dead; make it well first" % common_name)
        before = len(stand_in.events())
        stand_in.tell({"delay": delay})
        _process.wait_for(
            lambda: any(event["event"] == "obeys" for event in stand_in.events()[before:]),
            "%s obeys" % common_name,
        )

    def _launch(self, name: str) -> None:
        report = self._on_event
        self._stand_ins[name] = Talker(
            "gilmsg._standin",
            dict(self.config, name=name),
            cwd=self.directory,
            on_event=(lambda event: report(name, event)) if report else None,
        )

    def _launch_relay(self) -> None:
        self._relay_process = subprocess.Popen(
            _process.script("fedmsg.commands.relay:relay"),
            cwd=self.directory,
            env=_process.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for endpoint in [self.config["relay_inbound"]] + self.config["endpoints"]["relay_outbound"]:
            _process.wait_for(
                functools.partial(_process.can_connect, endpoint),
                "the relay listens at %s" % endpoint,
            )

    def _configuration(self, topic_prefix: str, settings: Dict[str, Any]) -> Dict[str, Any]:
        """Return the configuration of a publisher; everything that a host might set is set."""
        endpoints = {name: [self.ports.endpoint()] for name in self.recipients}
        endpoints[PUBLISHER] = [self.ports.endpoint() for _ in range(_PUBLISHERS)]
        certnames = {name: name for name in [PUBLISHER] + self.recipients}
        certnames["shell." + _bus.hostname()] = "shell"
        config: Dict[str, Any] = {
            "name": PUBLISHER,
            "topic_prefix": topic_prefix,
            "topic_prefix_re": topic_prefix.replace(".", r"\.") + r"\.[^\W\d_]+",
            "environment": "dev",
            "endpoints": endpoints,
            "relay_inbound": self.ports.endpoint(),
            "certnames": certnames,
            "sign_messages": True,
            "validate_signatures": True,
            "crypto_backend": "x509",
            "crypto_validate_backends": ["x509"],
            "ssldir": self.authority.folder,
            "ca_cert_location": self.authority.ca_file,
            "crl_location": self.authority.crl_file,
            "routing_policy": {},
            "routing_nitpicky": False,
            "zmq_enabled": True,
            "active": False,
            "mute": False,
            "io_threads": 1,
            "post_init_sleep": 0.5,
            "high_water_mark": 0,
            "zmq_linger": 1000,
            "zmq_reconnect_ivl": 100,
            "zmq_reconnect_ivl_max": 1000,
        }
        if self._relay:
            endpoints["relay_outbound"] = [self.ports.endpoint()]
        config.update(settings)
        return config


def _messages(stand_in: Optional[Talker]) -> List[Dict[str, Any]]:
    events = stand_in.events() if stand_in is not None else []
    return [
        event["message"]
        for event in events
        if event["event"] == "message" and not event["topic"].endswith("." + _acks.ACK_SUFFIX)
    ]


def _file_name(common_name: str) -> str:
    """Return *common_name* if a key and a certificate can be stored under it."""
    taken = common_name in (PUBLISHER, "shell", "ca", "crl", "relay_outbound", "relay_inbound")
    if taken or "/" in common_name or "," in common_name or common_name.startswith("."):
        raise ConfigurationError("%r cannot be the name of a stand-in; choose another" % common_name)
    return common_name
