"""What a publisher can see of its recipients: the way out (its peers), the way back (its links)."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _presence, _sockets
from ._ledger import Entry
from ._listener import Listener, Waiter
from ._outlet import Outlet


class Sight:
    """The evidence for one message: one topic, one outlet, one listener."""

    def __init__(
        self, topic: str, outlet: Outlet, listener: Listener, config: Mapping[str, Any]
    ) -> None:
        self._outlet = outlet
        self._listener = listener
        self._route = _presence.Route(topic, outlet.endpoint, outlet.address.active)
        self._endpoints = _Directory(config, self._route.via_relay)

    def wait_for(self, recipients: Sequence[str], head_start: float) -> None:
        """Return when all *recipients* are present, or the publisher is *head_start* s old."""
        self._outlet.wait_until(
            lambda peers: _presence.ready(recipients, self._route, peers, self.linked), head_start
        )

    def ready(self, recipients: Sequence[str]) -> bool:
        """Whether all *recipients* are present now."""
        with self._outlet.look() as peers:
            return _presence.ready(recipients, self._route, peers, self.linked)

    def linked(self, common_name: str) -> Optional[bool]:
        """Whether the listener is connected to *common_name*; None if its endpoints are unknown."""
        endpoints = self._endpoints.of(common_name)
        return any(map(self._listener.connected, endpoints)) if endpoints else None

    def missing(self, entry: "Entry[Waiter]") -> Dict[str, str]:
        """Return, for each recipient that has not answered, one sentence of what is known."""
        heard = _presence.Heard(entry.refused, sorted(entry.strangers), entry.ack_timeout)
        with self._outlet.look() as peers:
            return {
                one: _presence.explain(
                    one, self._route, peers, self.linked, self._endpoints.text, heard
                )
                for one in entry.missing()
            }


class _Directory:
    """From common names to endpoints, by ``certnames``: for the diagnosis, never for trust.

    ``certnames`` maps endpoint names to certificate file names, which are common names by
    convention. Behind a relay a recipient of unknown endpoints may answer through the relay.
    """

    def __init__(self, config: Mapping[str, Any], via_relay: bool) -> None:
        self._publishing = _sockets.publishing_endpoints(config)
        self._certnames = config.get("certnames") or {}
        self._otherwise = self._publishing.get("relay_outbound", []) if via_relay else []

    def of(self, common_name: str) -> List[str]:
        """Return the endpoints from which ACKs of *common_name* can come, as far as is known."""
        own = [
            endpoint
            for name, certificate in self._certnames.items()
            if certificate == common_name
            for endpoint in self._publishing.get(name, ())
        ]
        return own or self._otherwise

    def text(self, common_name: str) -> str:
        """Return the same for people."""
        return ", ".join(self.of(common_name))
