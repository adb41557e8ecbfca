"""What ``gilmsg.check`` sees of the recipients: who listens to us, and whom our ACK listener reaches.

Judged, and told, as for a message that is missed: by :mod:`gilmsg._presence` and :mod:`gilmsg._diagnosis`.
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _acks, _diagnosis, _presence, _sockets
from ._directory import Directory
from ._listener import Listener
from ._outlet import Outlet
from ._presence import LOOK_AGAIN, Peers
from ._report import Seen
from ._visibility import WayBack

#: Seconds for a TCP connection that only tells why the ACK listener has none.
_PROBE = 1.0

#: Such connections tried at a time.
_PROBES = 32


class Evidence:
    """What can be seen from one publisher and one listener, either of which may be missing.

    Args:
        topic: a full topic; None stands for any topic of our prefix and environment.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: Optional[str],
        outlet: Optional[Outlet],
        listener: Optional[Listener],
        directory: Optional[Directory],
    ) -> None:
        active = bool(config.get("active", False))
        self._outlet = outlet
        self._listener = listener
        self._back = WayBack(listener, directory, active)
        endpoint = outlet.endpoint if outlet is not None else ""
        ack_topic = directory.bus.ack_topic if directory is not None else ""
        self._route = _presence.Route(topic, endpoint, active, ack_topic)
        told = repr(topic) if topic else "any topic of ours (%s*)" % self._route.scope
        self._route = self._route._replace(told=told)

    def wait_for(self, entries: Sequence[str], limit: float) -> None:
        """Return once all *entries* (of a group, one member) are present, at the latest after *limit* seconds.

        It waits no more, either, when the listener has ended: nothing changes then.
        """
        if self._outlet is not None:
            age = self._outlet.age + limit
            self._outlet.wait_until(lambda peers: self._all_present(entries, peers), age)
            return
        deadline = time.monotonic() + limit
        while not self._all_linked(entries) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN)

    def _all_present(self, entries: Sequence[str], peers: Peers) -> bool:
        """Whether to wait no more; the relay is waited for even without recipients."""
        if self.deaf:
            return True
        relay = not self._route.via_relay or _presence.hears("", self._route, peers)
        return relay and _presence.ready(entries, self._route, peers, self._back.linked)

    def _all_linked(self, entries: Sequence[str]) -> bool:
        """The same where only links can be waited for."""
        return self.deaf or all(
            any(self._back.linked(name) is not False for name in _acks.members(entry)) for entry in entries
        )

    @property
    def deaf(self) -> bool:
        """Whether the listener has ended: to whom it was connected tells nothing any more."""
        return self._listener is not None and not self._listener.alive

    def absent(self, name: str) -> Optional[str]:
        """Return why *name*, or the relay before it, would not get what we publish; None if it would."""
        if self._outlet is None:
            return "whether it listens cannot be seen: we have no publisher (endpoint)"
        with self._outlet.look() as peers:
            return _diagnosis.absent(name, self._route, peers)

    def seen(self, names: Sequence[str]) -> Dict[str, Seen]:
        """Return what is known of each of *names* now."""
        linked = {name: self._back.linked(name) for name in names}
        cut_off = [endpoint for n in names if linked[n] is False for endpoint in self._back.endpoints(n)]
        reasons = _probe(list(dict.fromkeys(cut_off)))
        return {name: self._seen(name, linked[name], reasons) for name in names}

    def _seen(self, name: str, linked: Optional[bool], reasons: Mapping[str, str]) -> Seen:
        absent = self.absent(name)
        there = _diagnosis.BEHIND_RELAY if self._route.via_relay else "listening to us"
        detail = "%s; %s" % (absent or there, self._reach(name, linked, reasons))
        return Seen(self._back.endpoints(name), linked, absent is None, detail)

    def _reach(self, name: str, linked: Optional[bool], reasons: Mapping[str, str]) -> str:
        if linked is None:
            return (
                "its endpoints are unknown: certnames has no entry that leads to %r and "
                "to an entry of endpoints" % name
            )
        if linked:
            return "reachable for its ACK"
        told = ["%s %s" % (one, reasons[one]) for one in self._back.endpoints(name)]
        return "not reachable for its ACK: %s" % ", ".join(told)


def _probe(endpoints: List[str]) -> Dict[str, str]:
    """Return why the ACK listener is not connected to each of *endpoints*."""
    if not endpoints:
        return {}
    with ThreadPoolExecutor(min(_PROBES, len(endpoints)), "gilmsg-check") as pool:
        return dict(zip(endpoints, pool.map(_why_not, endpoints)))


def _why_not(endpoint: str) -> str:
    _, host, port = _sockets.parts(endpoint)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE).close()
    except socket.gaierror:
        return "has a host that does not resolve"
    except socket.timeout:
        return "does not answer"
    except (OSError, ValueError, OverflowError, UnicodeError) as error:
        return "cannot be connected to: %s" % error
    return "takes TCP connections, but the ACK listener has no ZeroMQ connection to it (yet)"


def with_groups(seen: Dict[str, Seen], groups: Sequence[Sequence[str]]) -> Dict[str, Seen]:
    """Return *seen*, with a word at each failing recipient for which others of its group make good."""
    told = dict(seen)
    for name in seen:
        own = [group for group in groups if name in group]
        if not seen[name].ok and all(any(seen[one].ok for one in group) for group in own):
            word = "; another of the group %s is enough" % _acks.join_group(own[0])
            told[name] = seen[name]._replace(detail=seen[name].detail + word)
    return told
