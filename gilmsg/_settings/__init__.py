"""Configuration, checked: what a call and the files ask for, and who publishes where.

Everything is looked at before anything is opened or sent, and refused by a ConfigurationError with key, value and
way out. ``keys`` holds what is ours (``recipients``, ``gilmsg.*``), ``values`` where it comes from, ``files`` what is
fedmsg's, and the :class:`AddressBook` the endpoints of one bus. No socket, no thread; only ``files`` reads files.
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import copy
from collections.abc import Mapping
from typing import Any

from .. import _protocol
from .files import (
    Loaded, current, found_in, in_force, keep, load, places, port, read_files, replace, require, wrong,
)
from .keys import (
    ACK_TIMEOUT, DATABASE, DEPTH, FLAGS, HEAD_START, KEYS, KEYWORDS, METRICS_PORT, RECIPIENTS, REQUIRED, any_of, checked,
    default, listening, misspelt, plain, recipients, recipients_for, require_known,
)
from .values import DEFAULT, FILES, VARIABLES, OutboxSettings, Said, kept, outbox_settings, read, settings, sourced

__all__ = [
    "ACK_TIMEOUT", "DATABASE", "DEFAULT", "DEPTH", "FILES", "FLAGS", "HEAD_START", "KEYS", "KEYWORDS", "METRICS_PORT",
    "RECIPIENTS", "RELAY_INBOUND", "REQUIRED", "VARIABLES", "AddressBook", "Loaded", "OutboxSettings", "Said",
    "any_of", "checked", "current", "default", "found_in", "in_force", "keep", "kept", "listed", "listening", "load",
    "misspelt", "outbox_settings", "places", "plain", "port", "publishing_endpoints", "read", "read_files",
    "recipients", "recipients_for", "replace", "require", "require_known", "settings", "sourced", "wrong",
]  # fmt: skip

#: Never subscribed to: its far end listens, it does not publish.
RELAY_INBOUND = "relay_inbound"


def listed(endpoints: Any) -> list[str]:
    """Return one endpoint, or several, as a list."""
    return [endpoints] if endpoints and isinstance(endpoints, str) else list(endpoints or ())


def publishing_endpoints(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return name -> endpoints of everybody who publishes on the bus of *config*."""
    # An active context of fedmsg puts the relay's inbound address among the endpoints.
    inward = set(listed(config.get(RELAY_INBOUND)))
    found = {
        name: [endpoint for endpoint in listed(value) if endpoint not in inward]
        for name, value in (config.get("endpoints") or {}).items()
        if name != RELAY_INBOUND
    }
    return {name: several for name, several in found.items() if several}


class AddressBook:
    """Endpoints and certificates as a configuration had them when this was made.

    ``certnames`` maps endpoint names to certificate files, which are common names by convention: good for a diagnosis,
    never for trust. Equal buses have equal ``key``s (the ACK topic and all endpoints): it tells ACK listeners apart.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._said = copy.deepcopy(_said(config))
        *_, certnames, self.ack_topic = self._said
        self.publishing = publishing_endpoints(config)
        # Text, whose hash is kept: a bus has thousands of endpoints.
        self.key = repr((self.ack_topic, sorted(self.publishing.items())))
        self._found: dict[str, list[str]] = {}
        for name, certificate in certnames.items():
            self._found.setdefault(certificate, []).extend(self.publishing.get(name, ()))

    def holds_for(self, config: Mapping[str, Any]) -> bool:
        """Whether *config* still says the same: it is a dict, anybody may have changed it."""
        return self._said == _said(config)

    def of(self, common_name: str, via_relay: bool) -> list[str]:
        """Return where ACKs of *common_name* can come from, as far as is known: where nothing is, from its relay."""
        return self._found.get(common_name) or (self.publishing.get("relay_outbound", []) if via_relay else [])


def _said(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any, Mapping[str, str], str]:
    endpoints, certnames = config.get("endpoints") or {}, config.get("certnames") or {}
    return endpoints, config.get(RELAY_INBOUND), certnames, _protocol.ack_topic(config)
