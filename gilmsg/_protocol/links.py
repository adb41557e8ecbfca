"""Connections of one connecting socket, as its monitor tells of them."""

from __future__ import annotations

#: What a monitor tells of an address: the handshake is over; the connection ended; libzmq tries again by itself.
UP, DOWN, RETRIED = "up", "down", "retried"

#: Seconds after the end of a connection within which libzmq tells that it tries again, if it does.
_GRACE = 0.5

#: Seconds between two connections made anew to one address: at first, and at most (it doubles). One that
#: was up for longer than the most begins anew.
_FIRST, _MOST = 1.0, 10.0


class _Link:
    """One address: since when it is up, when it may be connected anew, and the pause after that."""

    def __init__(self) -> None:
        self.endpoints: set[str] = set()
        self.up_since: float | None = None
        self.due, self.pause = 0.0, _FIRST


class Links:
    """The connections of one socket, by numeric address (``"tcp://1.2.3.4:3000"``); endpoints as configured.

    A link is up once the handshake is over; our subscription follows on the same connection, perhaps a moment later.

    libzmq tries a lost connection again by itself, and says so at once; one that ended by the peer's fault (a frame
    that is too large) it gives up for good, without a word.
    """

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._addresses: dict[str, set[str]] = {}  # of each endpoint
        #: Addresses of connections that ended, of which nothing was told since -> when they are given up.
        self._doubtful: dict[str, float] = {}

    def expect(self, address: str, endpoint: str) -> bool:
        """Have *endpoint* be reached by *address*; return whether no other is: then that is to be connected to."""
        known = address in self._links
        self._links.setdefault(address, _Link()).endpoints.add(endpoint)
        self._addresses.setdefault(endpoint, set()).add(address)
        return not known

    def forget(self, address: str, endpoint: str) -> bool:
        """Have *endpoint* be reached by *address* no more; return whether no other is: then that is to be disconnected."""
        self._addresses.get(endpoint, set()).discard(address)
        link = self._links.get(address)
        if link is not None:
            link.endpoints.discard(endpoint)
            if link.endpoints:
                return False
            del self._links[address]
        self._doubtful.pop(address, None)
        return True

    def note(self, event: str, address: str, now: float) -> list[str]:
        """Take in an event (UP, DOWN, RETRIED) of *address*; of an unknown one it is ignored.

        Return the endpoints that are there by it, and were not; or are no more, and were.
        """
        link = self._links.get(address)
        if link is None:
            return []
        self._doubtful.pop(address, None)
        changed = sorted(link.endpoints) if (event == UP) is (link.up_since is None) else []
        if event == UP:
            link.up_since = now
            return changed
        if event == DOWN:
            if link.up_since is not None and now - link.up_since > _MOST:
                link.pause = _FIRST
            self._doubtful[address] = max(now + _GRACE, link.due)
        link.up_since = None
        return changed

    def up(self, endpoint: str) -> bool:
        return any(self._links[one].up_since is not None for one in self._addresses.get(endpoint, ()))

    def given_up(self, now: float) -> list[str]:
        """Return, once, the addresses that libzmq gave up: disconnect and connect them anew."""
        lost = [address for address, due in self._doubtful.items() if due <= now]
        for address in lost:
            del self._doubtful[address]
            link = self._links[address]
            link.due, link.pause = now + link.pause, min(2 * link.pause, _MOST)
        return lost

    def next_due(self) -> float | None:
        """Return when :meth:`given_up` has something next, None if nothing is in doubt."""
        return min(self._doubtful.values(), default=None)
