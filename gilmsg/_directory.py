"""Who publishes where on one bus: what tells its ACK listener from another's, and where an ACK comes from."""

import copy
from typing import Any, Dict, List, Mapping

from . import _acks, _sockets


class Bus:
    """What identifies an ACK listener within the process: the topic of ACKs, and who may send them."""

    def __init__(self, ack_topic: str, endpoints: Mapping[str, List[str]]) -> None:
        self.ack_topic = ack_topic
        self.endpoints = {name: tuple(endpoints[name]) for name in sorted(endpoints)}
        # Once: a bus has thousands of endpoints, and every message looks its listener up.
        self._hash = hash((ack_topic, tuple(self.endpoints.items())))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Bus):
            return self is other
        return (self.ack_topic, self.endpoints) == (other.ack_topic, other.endpoints)


class Directory:
    """What a configuration said of endpoints and certificates when this was made.

    ``certnames`` maps endpoint names to certificate file names, which are common names by
    convention: good for a diagnosis, never for trust.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        endpoints = config.get("endpoints") or {}
        self._endpoints = {name: copy.copy(value) for name, value in endpoints.items()}
        self._certnames = dict(config.get("certnames") or {})
        self._inbound = copy.copy(config.get(_sockets.RELAY_INBOUND))
        self._publishing = _sockets.publishing_endpoints(config)
        self.bus = Bus(_acks.ack_topic(config), self._publishing)
        self._relay = self._publishing.get("relay_outbound", [])
        self._found: Dict[str, List[str]] = {}
        for name, certificate in self._certnames.items():
            self._found.setdefault(certificate, []).extend(self._publishing.get(name, ()))

    def holds_for(self, config: Mapping[str, Any]) -> bool:
        """Whether *config* still says the same: it is a dict, anybody may have changed it."""
        return bool(
            self._endpoints == (config.get("endpoints") or {})
            and self._certnames == (config.get("certnames") or {})
            and self._inbound == config.get(_sockets.RELAY_INBOUND)
            and self.bus.ack_topic == _acks.ack_topic(config)
        )

    def of(self, common_name: str, via_relay: bool) -> List[str]:
        """Return the endpoints from which ACKs of *common_name* can come, as far as is known.

        Behind a relay a recipient of unknown endpoints may answer through the relay.
        """
        return self._found.get(common_name) or (self._relay if via_relay else [])

