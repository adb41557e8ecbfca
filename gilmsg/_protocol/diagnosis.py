"""Reasons why a recipient is missing: one plain sentence each, of what was seen. None claims delivery, or loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Reason, Timeout
from . import wire
from .delivery import DIGEST_DIFFERS, Entry
from .presence import NOT_LEFT, Way

#: Said where the relay is there.
BEHIND_RELAY = "the relay is there, behind it recipients cannot be seen"

#: Foreign signers, and topics, named in one sentence: there may be any number.
_NAMED = 5

#: Said wherever the message can have left for the recipient: neither delivery nor loss is known.
_UNKNOWN = "its ACK did not come, it may have received the message"

#: Nobody tells a publisher which kind of relay it has. That kind signs over the signature that is there already.
_SIGNING_RELAY = " (unless that is a fedmsg-signing-relay: it spoils what was signed already, every recipient drops it)"

_SPOILED = " (as after a fedmsg-signing-relay, which spoils what was signed already)"

_NO_ENDPOINT = " (certnames names no endpoint of it: whether its ACK can reach us is not known)"

_UNSIGNED = (
    "; the message was not signed, and recipients that validate signatures, as we do, drop such a one: set sign_messages "
    "to True"
)

#: The codes of NACKs of what was dropped, and what each says.
_NACKED = {
    "signature": "it takes the signature for invalid",
    "policy": "its routing policy does not allow it",
    "trust": "its CA or CRL has expired or cannot be used",
}

#: What was seen, and its code.
_Told = tuple[str, str]


class Receipt(NamedTuple):
    """The proof that every required recipient got the message.

    Attributes:
        msg_id (str): the id of the message.
        topic (str): its full topic.
        acks (dict): common name -> seconds from sending to its ACK; of a group, who answered.
    """

    msg_id: str
    topic: str
    acks: dict[str, float]


def result(entry: Entry) -> Receipt | Timeout:
    """Return what becomes of *entry*, which is settled or whose deadline has passed."""
    reasons = {one: explain(one, entry) for one in entry.missing()}
    if not reasons:
        return Receipt(entry.msg_id, entry.topic, entry.acks)
    return Timeout(entry.msg_id, entry.topic, entry.waited, entry.acks, reasons, len(entry.recipients))


def explain(recipient: str, entry: Entry) -> Reason:
    """Return what is known of a *recipient* of *entry* (a name, or a group), which has not proven receipt."""
    arrived, suffix = _may_have_arrived(entry.way, entry.left), ""
    seen = {name: Reason(*_explain_one(name, entry), arrived) for name in wire.members(recipient)}
    if entry.strangers:
        suffix = f"; an ACK for this message came signed by {_named(sorted(entry.strangers))} instead"
    if len(seen) > 1:
        text = " | ".join(f"{name}: {reason}" for name, reason in seen.items())
        return Reason(text + suffix, "group", arrived, seen)
    [reason] = seen.values()
    return Reason(reason + suffix, reason.code, arrived)


def absent(name: str, way: Way) -> Reason | None:
    """Return why what leaves by *way* cannot reach *name*, or the relay before it; None if it can."""
    told = _absent(name, way, NOT_LEFT)
    return None if told is None else Reason(*told, _may_have_arrived(way, NOT_LEFT))


def _may_have_arrived(way: Way, left: int) -> bool:
    """Return False only if from *left* to now no peer at all was subscribed to the topic.

    Of a relay that was there once, libzmq keeps the subscription, and for it what is sent while it is away.
    """
    return way.anybody_hears() or way.peers.uncounted or way.peers.last_end > (0 if way.via_relay else left)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _explain_one(name: str, entry: Entry) -> _Told:
    way = entry.way
    if name in entry.nacked:
        if entry.nacked[name][0] == wire.HANDLER:
            return "it received the message, and its handler failed, as its NACK says", "nacked"
        why = _NACKED.get(entry.nacked[name][0], "its reason is unknown to this version of gilmsg")
        spoiled = way.via_relay and entry.nacked[name][0] == "signature"
        hint = _UNSIGNED if entry.unsigned else _SPOILED if spoiled else ""
        return f"it received the message and dropped it, as its NACK says: {why}{hint}", "nacked"
    missing, refused, linked = _absent(name, way, entry.left), entry.refused.get(name), way.linked(name)
    if refused is not None:
        code = "digest_differs" if refused == DIGEST_DIFFERS else "ack_refused"
        besides = f"; besides, {missing[0]}" if missing else ""
        return f"an ACK came in its name and was refused: {refused}{besides}", code
    if missing:
        return missing
    if linked is False:
        there, unresolved = "the relay is there" if way.via_relay else "it is listening", way.unresolved(name)
        why, code = ", or not yet again", "unreachable"
        if unresolved:
            why, code = ": the host name does not resolve", "unresolved"
        endpoints = ", ".join(unresolved or way.endpoints(name))
        return f"{there}, but its endpoint {endpoints} cannot be reached for the ACK{why}; {_UNKNOWN}", code
    sentence = BEHIND_RELAY + "; silent for %g s" if way.via_relay else "listening, but silent for %g s"
    sentence = f"{sentence % entry.waited}: {_UNKNOWN}" + (_SIGNING_RELAY if way.via_relay else "")
    sentence += _NO_ENDPOINT if linked is None else ""
    return (sentence + _UNSIGNED, "unsigned") if entry.unsigned else (sentence, "silent")


def _absent(name: str, way: Way, left: int) -> _Told | None:
    """Return why the message cannot have reached *name*, or the relay before it; None if it can have."""
    if way.via_relay:
        return _relay_absent(way, left)
    since, ended, topics = way.hears_since(name), way.peers.ended(name), way.peers.topics(name)
    if since is not None:
        if since <= left:
            return None
        # Or libzmq took the subscription while it sent, and told of it only afterwards.
        text = "it is listening now, but was not yet seen listening when the message left; "
        return text + _UNKNOWN, "never_connected" if ended is None else "gone"
    if topics:
        sentence = f"connected to us, but not subscribed to this topic (only to {_named([repr(one) for one in topics])})"
        return sentence.replace("this topic", way.told, 1), "other_topic"  # whole above, as operations/faults.rst quotes it
    if ended is not None and ended > left:
        return "it has gone since the message left; " + _UNKNOWN, "gone"
    if ended is not None:
        return "it was connected to us and has gone", "gone"
    if not way.peers.anyone(besides=way.ack_topic):
        return f"never connected to us: nobody at all is connected to our socket {way.endpoint}", "never_connected"
    return "never connected to us as a gilmsg consumer", "never_connected"


def _relay_absent(way: Way, left: int) -> _Told | None:
    """The same of the relay. Our socket connects to it, and libzmq keeps for it what is sent while it is away."""
    relay, last_end = f"the relay at {way.endpoint}", way.peers.last_end
    if way.anybody_hears():
        return None
    if way.peers.anyone():
        return f"{relay} does not take {way.told}", "relay_refuses_topic"
    if last_end > left:
        return f"{relay} has gone since the message left; {_UNKNOWN}", "relay_gone"
    if last_end:
        return f"{relay} has gone{'' if left == NOT_LEFT else '; it may get the message when it is back'}", "relay_gone"
    return f"{relay} is not there", "relay_absent"
