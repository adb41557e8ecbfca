"""Reasons why a recipient is missing: one plain sentence each, from evidence. Pure.

A sentence states what was seen, and nothing more. It claims neither delivery nor loss: where the message can have
arrived, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import Reason, Timeout
from . import wire
from .delivery import DIGEST_DIFFERS, Entry, Receipt
from .presence import NOT_LEFT, Peers, Route, Way, hears, hears_since

#: Said where the relay is there.
BEHIND_RELAY = "the relay is there, behind it recipients cannot be seen"

#: Foreign signers, and topics, named in one sentence: there may be any number.
_NAMED = 5

#: Said wherever the message can have left for the recipient: neither delivery nor loss is known.
_UNKNOWN = "its ACK did not come, it may have received the message"

#: Nobody tells a publisher which kind of relay it has. That kind signs over the signature that is there already.
_SIGNING_RELAY = " (unless that is a fedmsg-signing-relay: it spoils what was signed already, every recipient drops it)"

_NO_ENDPOINT = " (certnames names no endpoint of it: whether its ACK can reach us is not known)"

#: What was seen, and its code.
_Told = tuple[str, str]


class Heard(NamedTuple):
    """What is known of one message besides the ACKs that counted: as in :class:`Entry`, and the seconds waited."""

    refused: Mapping[str, str]
    strangers: Sequence[str]
    waited: float
    left: int


def result(entry: Entry) -> Receipt | Timeout:
    """Return what becomes of *entry*, which is settled or whose deadline has passed."""
    missing = entry.missing()
    if not missing:
        return Receipt(entry.msg_id, entry.topic, entry.acks)
    heard = Heard(entry.refused, sorted(entry.strangers), entry.ack_timeout, entry.left)
    reasons = {one: explain(one, entry.way, heard) for one in missing}
    return Timeout(entry.msg_id, entry.topic, entry.ack_timeout, entry.acks, reasons, len(entry.recipients))


def explain(entry_name: str, way: Way, heard: Heard) -> Reason:
    """Return what is known of an entry of recipients (a name, or a group), which has not proven receipt."""
    arrived = _may_have_arrived(way.route, way.peers, heard.left)
    seen = {name: Reason(*_explain_one(name, way, heard), arrived) for name in wire.members(entry_name)}
    suffix = ""
    if heard.strangers:
        suffix = f"; an ACK for this message came signed by {_named(heard.strangers)} instead"
    if len(seen) > 1:
        text = " | ".join(f"{name}: {reason}" for name, reason in seen.items())
        return Reason(text + suffix, "group", arrived, seen)
    [reason] = seen.values()
    return Reason(reason + suffix, reason.code, arrived)


def absent(name: str, route: Route, peers: Peers, left: int = NOT_LEFT) -> Reason | None:
    """Return why what leaves by *route* cannot reach *name*, or the relay before it; None if it can."""
    told = _absent(name, route, peers, left)
    return None if told is None else Reason(*told, _may_have_arrived(route, peers, left))


def _may_have_arrived(route: Route, peers: Peers, left: int) -> bool:
    """Return False only if from *left* to now no peer at all was subscribed to the topic.

    Of a relay that was there once, libzmq keeps the subscription, and for it what is sent while it is away.
    """
    there = peers.anyone(route.ack_topic) if route.topic is None else peers.subscribed(route.topic)
    return there or peers.uncounted or peers.last_end > (0 if route.via_relay else left)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _explain_one(name: str, way: Way, heard: Heard) -> _Told:
    missing = _absent(name, way.route, way.peers, heard.left)
    refused = heard.refused.get(name)
    if refused is not None:
        code = "digest_differs" if refused == DIGEST_DIFFERS else "ack_refused"
        besides = f"; besides, {missing[0]}" if missing else ""
        return f"an ACK came in its name and was refused: {refused}{besides}", code
    if missing:
        return missing
    linked = way.linked(name)
    if linked is False:
        return _unreachable(name, way)
    sentence = BEHIND_RELAY + "; silent for %g s" if way.route.via_relay else "listening, but silent for %g s"
    sentence = f"{sentence % heard.waited}: {_UNKNOWN}"
    if way.route.via_relay:
        sentence += _SIGNING_RELAY
    return sentence + (_NO_ENDPOINT if linked is None else ""), "silent"


def _unreachable(name: str, way: Way) -> _Told:
    there = "the relay is there" if way.route.via_relay else "it is listening"
    unresolved = way.unresolved(name)
    endpoints = ", ".join(unresolved or way.endpoints(name))
    if unresolved:
        why, code = ": the host name does not resolve", "unresolved"
    else:
        why, code = ", or not yet again", "unreachable"
    return f"{there}, but its endpoint {endpoints} cannot be reached for the ACK{why}; {_UNKNOWN}", code


def _absent(name: str, route: Route, peers: Peers, left: int) -> _Told | None:
    """Return why the message cannot have reached *name*, or the relay before it; None if it can have.

    That somebody is connected is seen only by what it subscribes to; and a plain fedmsg consumer does not say
    who it is.
    """
    if route.via_relay:
        return _relay_absent(route, peers, left)
    since, ended = hears_since(name, route, peers), peers.ended(name)
    if since is not None:
        if since <= left:
            return None
        # Or libzmq took the subscription while it sent, and told of it only afterwards.
        text = "it is listening now, but was not yet seen listening when the message left; "
        return text + _UNKNOWN, "never_connected" if ended is None else "gone"
    if peers.topics(name):
        topics = _named([repr(topic) for topic in peers.topics(name)])
        sentence = f"connected to us, but not subscribed to this topic (only to {topics})"
        return sentence.replace("this topic", route.told, 1), "other_topic"  # whole above, as README quotes it
    if ended is not None and ended > left:
        return "it has gone since the message left; " + _UNKNOWN, "gone"
    if ended is not None:
        return "it was connected to us and has gone", "gone"
    if not peers.anyone(besides=route.ack_topic):
        nobody = f"never connected to us: nobody at all is connected to our socket {route.endpoint}"
        return nobody, "never_connected"
    return "never connected to us as a gilmsg consumer", "never_connected"


def _relay_absent(route: Route, peers: Peers, left: int) -> _Told | None:
    """Return why the message cannot have reached the relay, None if it can have.

    Our socket connects to the relay, and libzmq keeps for it what is sent while it is away.
    """
    if hears("", route, peers):
        return None
    relay = f"the relay at {route.endpoint}"
    if peers.anyone():
        return f"{relay} does not take {route.told}", "relay_refuses_topic"
    if peers.last_end > left:
        return f"{relay} has gone since the message left; {_UNKNOWN}", "relay_gone"
    if peers.last_end:
        kept = "" if left == NOT_LEFT else "; it may get the message when it is back"
        return f"{relay} has gone{kept}", "relay_gone"
    return f"{relay} is not there", "relay_absent"
