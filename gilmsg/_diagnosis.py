"""Why a recipient is missing: one plain sentence each, from evidence. Pure.

A sentence states what was seen, and nothing more. It claims neither delivery nor loss: where
the message can have arrived, it says so.
"""

import sys
from typing import Callable, Dict, NamedTuple, Optional, Sequence

from . import _acks
from ._presence import Linked, Peers, Route, hears, hears_since

#: For ``Peers.mark`` when the message left, where none has.
NOT_LEFT = sys.maxsize

#: Said where the relay is there.
BEHIND_RELAY = "the relay is there, behind it recipients cannot be seen"

#: Foreign signers, and topics, named in one sentence: there may be any number.
_NAMED = 5


#: Said wherever the message can have left for the recipient: neither delivery nor loss is known.
_UNKNOWN = "its ACK did not come, it may have received the message"


#: Nobody tells a publisher which kind of relay it has. That kind signs over the signature that is there already.
_SIGNING_RELAY = (
    " (unless that is a fedmsg-signing-relay: it spoils what was signed already, every recipient drops it)"
)


class Heard(NamedTuple):
    """What is known of one message, besides the ACKs that counted."""

    #: Common name -> why an ACK in that name did not count.
    refused: Dict[str, str]
    #: Who else signed an ACK for it.
    strangers: Sequence[str]
    #: Seconds that were waited.
    waited: float
    #: ``Peers.mark`` when the message left, or NOT_LEFT.
    left: int


def explain(
    entry: str, route: Route, peers: Peers, linked: Linked, endpoints: Callable[[str], Sequence[str]], heard: Heard
) -> str:
    """Return what is known of *entry* (a name, or a group), which has not proven receipt."""
    names = _acks.members(entry)
    told = [_explain_one(name, route, peers, linked, endpoints, heard) for name in names]
    if len(names) == 1:
        sentence = told[0]
    else:
        sentence = " | ".join("%s: %s" % pair for pair in zip(names, told))
    if heard.strangers:
        sentence += "; an ACK for this message came signed by %s instead" % _named(heard.strangers)
    return sentence


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (" and %d more" % more if more > 0 else "")


def _explain_one(
    name: str, route: Route, peers: Peers, linked: Linked, endpoints: Callable[[str], Sequence[str]], heard: Heard
) -> str:
    missing = absent(name, route, peers, heard.left)
    if name in heard.refused:
        refusal = "an ACK came in its name and was refused: %s" % heard.refused[name]
        return "%s; besides, %s" % (refusal, missing) if missing else refusal
    if missing:
        return missing
    link = linked(name)
    if link is False:
        return "%s, but its endpoint %s cannot be reached for the ACK, or not yet again; %s" % (
            "the relay is there" if route.via_relay else "it is listening",
            ", ".join(endpoints(name)),
            _UNKNOWN,
        )
    sentence = BEHIND_RELAY + "; silent for %g s" if route.via_relay else "listening, but silent for %g s"
    sentence = "%s: %s" % (sentence % heard.waited, _UNKNOWN)
    if route.via_relay:
        sentence += _SIGNING_RELAY
    if link is None:
        sentence += " (certnames names no endpoint of it: whether its ACK can reach us is not known)"
    return sentence


def absent(name: str, route: Route, peers: Peers, left: int = NOT_LEFT) -> Optional[str]:
    """Return why what leaves by *route* cannot reach *name*, or the relay before it; None if it can."""
    return _relay_absent(route, peers, left) if route.via_relay else _absent(name, route, peers, left)


def _relay_absent(route: Route, peers: Peers, left: int) -> Optional[str]:
    """Return why the message cannot have reached the relay, None if it can have.

    Our socket connects to the relay, and libzmq keeps for it what is sent while it is away.
    """
    if hears("", route, peers):
        return None
    if peers.anyone():
        return "the relay at %s does not take %s" % (route.endpoint, route.told)
    if peers.last_end > left:
        return "the relay at %s has gone since the message left; %s" % (route.endpoint, _UNKNOWN)
    if peers.last_end:
        kept = "" if left == NOT_LEFT else "; it may get the message when it is back"
        return "the relay at %s has gone%s" % (route.endpoint, kept)
    return "the relay at %s is not there" % route.endpoint


def _absent(name: str, route: Route, peers: Peers, left: int) -> Optional[str]:
    """Return why the message cannot have reached *name* directly, None if it can have.

    That somebody is connected is seen only by what it subscribes to; and a plain fedmsg
    consumer does not say who it is.
    """
    since, ended = hears_since(name, route, peers), peers.ended(name)
    if since is not None:
        if since <= left:
            return None
        # Or libzmq took the subscription while it sent, and told of it only afterwards.
        return "it is listening now, but was not yet seen listening when the message left; " + _UNKNOWN
    if peers.topics(name):
        topics = _named([repr(topic) for topic in peers.topics(name)])
        sentence = "connected to us, but not subscribed to this topic (only to %s)" % topics
        return sentence.replace("this topic", route.told, 1)  # whole above, as README quotes it
    if ended is not None and ended > left:
        return "it has gone since the message left; " + _UNKNOWN
    if ended is not None:
        return "it was connected to us and has gone"
    if not peers.anyone(besides=route.ack_topic):
        return "never connected to us: nobody at all is connected to our socket %s" % route.endpoint
    return "never connected to us as a gilmsg consumer"
