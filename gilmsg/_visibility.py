"""What a publisher can see of its recipients: the way out (its peers), the way back (its links)."""

from typing import Dict, List, Optional, Sequence

from . import _acks, _diagnosis, _presence
from ._directory import Directory
from ._ledger import Entry
from ._listener import Listener
from ._outlet import Outlet


class WayBack:
    """Whether ACKs can come: to whom the listener is connected. It, or what is known of endpoints, may be missing."""

    def __init__(self, listener: Optional[Listener], directory: Optional[Directory], via_relay: bool) -> None:
        self._listener = listener
        self._directory = directory
        self._via_relay = via_relay

    def endpoints(self, common_name: str) -> List[str]:
        """Return those from which ACKs of *common_name* can come, as far as is known."""
        return self._directory.of(common_name, self._via_relay) if self._directory is not None else []

    def linked(self, common_name: str) -> Optional[bool]:
        """Whether the listener is connected to *common_name*; None if its endpoints are unknown."""
        endpoints = self.endpoints(common_name)
        if not endpoints:
            return None
        return self._listener is not None and any(map(self._listener.connected, endpoints))


class Visibility:
    """The evidence for one message: one topic, one outlet, one listener."""

    def __init__(
        self, topic: str, outlet: Outlet, listener: Listener, directory: Directory
    ) -> None:
        self._outlet = outlet
        self.listener = listener
        self._back = WayBack(listener, directory, outlet.address.active)
        self._route = _presence.Route(
            topic, outlet.endpoint, outlet.address.active, listener.bus.ack_topic
        )
        #: ``Peers.mark`` when the message left.
        self.left = _diagnosis.NOT_LEFT

    def wait_for(self, recipients: Sequence[str], head_start: float) -> None:
        """Return when all *recipients* are present, or the publisher is *head_start* s old.

        A listener that is younger than the socket (the one before died) is as good as a young
        socket: it is not yet connected to those who acknowledge.

        Raises:
            ListenerError: publisher or listener has ended meanwhile, each may without the other: the listener
                died; or ``destroy()`` knew nothing of the socket, which was opened that very moment.
        """
        if head_start:
            head_start += max(0.0, self.listener.born - self._outlet.born)
        self._outlet.wait_until(
            lambda peers: not self.listener.alive or _presence.ready(recipients, self._route, peers, self._back.linked),
            head_start,
        )
        self.listener.require()
        self._outlet.require()

    def missing(self, entry: Entry) -> Dict[str, str]:
        """Return, for each recipient that has not answered, one sentence of what is known."""
        names = [name for one in entry.missing() for name in _acks.members(one)]
        with self._outlet.look() as peers:
            doubtful = any(_presence.hears(name, self._route, peers) for name in names)
        if doubtful:
            self._outlet.catch_up()
        heard = _diagnosis.Heard(
            entry.refused, sorted(entry.strangers), entry.ack_timeout, self.left
        )
        with self._outlet.look() as peers:
            return {
                one: _diagnosis.explain(
                    one, self._route, peers, self._back.linked, self._back.endpoints, heard
                )
                for one in entry.missing()
            }

